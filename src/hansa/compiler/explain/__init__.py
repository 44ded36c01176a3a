"""What a computation compiles to, for people: as text, as a picture, and as data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hansa._tracebacks import boundaries
from hansa.compiler.explain.facts import AtClients, AtServer, Bytes
from hansa.compiler.explain.flops import Flops
from hansa.compiler.explain.picture import picture_of
from hansa.compiler.explain.privacy import flows_in, privacy_of
from hansa.compiler.explain.stages import stages_of
from hansa.compiler.explain.text import text_of
from hansa.compiler.partition import compile_computation
from hansa.language.computation import Computation
from hansa.language.computations import PolymorphicComputation
from hansa.language.context import current_runtime
from hansa.language.flows import Flows
from hansa.templates import IterativeProcess


@boundaries
class Explanation(str):
    """What a computation compiles to. It is its own text, and shows as a picture in a notebook.

    Attributes:
        name: the computation's name.
        stages: `AtServer` and `AtClients` in turn, in the order in which they run.
    """

    name: str
    stages: tuple[AtServer | AtClients, ...]
    _picture: str
    _flows: Flows

    @property
    def private(self) -> list[str]:
        """The results that are made of nothing of the clients but sums with noise: the paths to them."""
        return self._flows.paths("private")

    @property
    def released(self) -> list[str]:
        """The results that are made of the clients' values without noise."""
        return self._flows.paths("released")

    @property
    def protected(self) -> list[str]:
        """The operations of which the server would see the sum only, and no client's contribution."""
        return list(dict.fromkeys(map(str, self._flows.protected)))

    @property
    def bytes_down(self) -> Bytes:
        """What one client receives, in the first round, as far as it is known; `exact` says whether that is all."""
        return Bytes.total(stage.bytes_down for stage in self._clients)

    @property
    def bytes_once(self) -> Bytes:
        """What of that comes back as it is, to be the argument of the next call: it is sent in the first round only."""
        return Bytes.total(stage.bytes_once for stage in self._clients)

    @property
    def bytes_up(self) -> Bytes:
        """What one client reports, likewise."""
        return Bytes.total(stage.bytes_up for stage in self._clients)

    @property
    def client_flops(self) -> Flops:
        """The floating-point operations of one client."""
        return Flops.total(stage.flops for stage in self._clients)

    @property
    def server_flops(self) -> Flops:
        """Those of the server, without adding up the clients' reports."""
        return Flops.total(stage.flops for stage in self.stages if isinstance(stage, AtServer))

    @property
    def adding_flops(self) -> Flops:
        """What the server does to add up one client's reports."""
        return Flops.total(report.flops for stage in self._clients for report in stage.reports)

    @property
    def _clients(self) -> list[AtClients]:
        return [stage for stage in self.stages if isinstance(stage, AtClients)]

    def svg(self) -> str:
        """A picture of the data's way between the server and the clients, as an SVG document 800 pixels wide."""
        return self._picture

    def save(self, path: Any) -> Path:
        """Writes the picture to a file, or the text if the path ends in `.txt`, and returns where it is."""
        target = Path(path)
        target.write_text(f"{self}\n" if target.suffix == ".txt" else self._picture, "utf-8")
        return target

    def _repr_svg_(self) -> str:
        return self._picture

    def __repr__(self) -> str:
        return str(self)


def explain(computation: Computation | PolymorphicComputation | IterativeProcess) -> Explanation:
    """The stages of a computation: what the server and the clients compute, and what goes between them.

    Args:
        computation: a computation with declared types, such as `process.next`; of a process, that is what is explained.

    Returns:
        Text to print, with a picture (`svg`, `save`) and the facts in it (`stages` and the totals). Sizes are those of
        one client's messages, in bytes; `?` stands for what only the data tells. Its last line tells how the current
        runtime would go about it.

    Examples:
        >>> @hansa.federated_computation("{float32}@CLIENTS")
        ... def average(readings):
        ...     return hansa.federated_mean(readings)
        >>> explanation = hansa.explain(average)
        >>> print(explanation)
        average: 1 client stage, one XLA program (with clients_per_chunk, several)
          ({float32}@CLIENTS -> float32@SERVER)
        ...
        client stage 0, on each client
          has        the argument: float32
          reports    the argument: float32, 4 bytes -> mean at the server
        ...
        >>> path = explanation.save("average.svg")
        >>> explanation.private, explanation.released, explanation.protected
        ([], ['the result'], [])
    """
    if isinstance(computation, IterativeProcess):
        computation = computation.next
    if not isinstance(computation, Computation):
        remedy = (
            "give it types: explain(f.specialize(hansa.to_type(…)))"
            if isinstance(computation, PolymorphicComputation)
            else "pass what a decorator returns, such as process.next"
        )
        raise TypeError(f"explain takes a computation with declared types, found {computation!r}; {remedy}")
    program = compile_computation(computation)
    stages = stages_of(program)
    plan = getattr(current_runtime(), "plan", None)
    here = plan(computation) if plan is not None else ""
    flows = flows_in(computation)
    privacy = privacy_of(flows)
    explanation = Explanation(text_of(program, stages, privacy) + (f"\nhere    {here}" if here else ""))
    explanation.name, explanation.stages = program.name, stages
    explanation._picture, explanation._flows = picture_of(program, stages, privacy), flows
    return explanation
