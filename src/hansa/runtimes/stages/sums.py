"""What is asked of a call before any client works: whether there are enough of them, and whether sums will fit."""

from __future__ import annotations

from typing import Any

from jax.sharding import PartitionSpec as P

from hansa.compiler.evaluate import evaluate
from hansa.language.terms import check_cohort
from hansa.runtimes.arguments import Static
from hansa.runtimes.stages import round as rounds
from hansa.runtimes.stages.compiled import Compiled
from hansa.runtimes.stages.devices import Devices
from hansa.runtimes.stages.gathered import check_clients


def check_sums(devices: Devices, compiled: Compiled, clients: int, packed: Any, static: Static) -> None:
    """Refuses a call of too few clients, or whose protected sums might not fit.

    Args:
        devices: of the server.
        compiled: the program.
        clients: how many take part.
        packed: the argument.
        static: its layout.

    Raises:
        ValueError: if it is one.
    """
    check_clients(compiled.program, clients)
    program, asked = compiled.program, list(compiled.protected.asked)
    for fold in (fold for stage in program.clients for fold in stage.aggregates):
        check_cohort(fold.node.name, fold.terms, clients, fold.node.where)

    def bounds(packed: Any) -> list[Any]:
        return evaluate(asked, rounds.server_environment(program, packed, static))

    values = devices.execute(compiled, ("bounds", static), bounds, (packed,), (P(),), P()) if asked else []
    compiled.protected.check(clients, values)
