"""The text of an explanation."""

from __future__ import annotations

from collections.abc import Sequence

from hansa.compiler.evaluate import member
from hansa.compiler.explain.facts import AtClients, AtServer, Bytes, Operation, Report, down, sliced
from hansa.compiler.explain.flops import Flops
from hansa.compiler.explain.stages import is_local
from hansa.compiler.program import Program
from hansa.types import Type
from hansa.types.layout import WIDTH, lay_out
from hansa.types.queries import tensor_sizes

_LONGEST = 100
"""Characters of a type that are printed in full."""


def text_of(
    program: Program, stages: Sequence[AtServer | AtClients], privacy: Sequence[tuple[str, str, str]] = ()
) -> str:
    """The stages line by line, what they come to, who would see what, and lines about privacy."""
    local = is_local(program)
    lines = [headline(program, stages), *_laid_out(program.signature), ""]
    for stage in stages:
        lines += [*(_server(stage, local) if isinstance(stage, AtServer) else _clients(stage)), ""]
    lines += _totals(stages, privacy)
    result = program.signature.result
    fits = len("result  ") + len(result.compact()) <= WIDTH
    return "\n".join([*lines, f"result  {result}"] if fits else [*lines, "result", *_laid_out(result)])


def _laid_out(kind: Type) -> list[str]:
    return [f"  {line}" for line in lay_out(kind.compact(), WIDTH - 2).splitlines()]


def headline(program: Program, stages: Sequence[AtServer | AtClients]) -> str:
    """`next: 1 client stage, one XLA program`, and when it is more than one."""
    number = len(program.clients)
    if not number and not any(stage.computes for stage in stages):
        return f"{program.name}: nothing is computed"
    if is_local(program):
        return f"{program.name}: a local computation, one XLA program"
    chunks = " (with clients_per_chunk, several)" if number else ""
    return f"{program.name}: {number} client stage{'' if number == 1 else 's'}, one XLA program{chunks}"


def _server(stage: AtServer, local: bool) -> list[str]:
    lines = ["at one place" if local else f"server stage {stage.number}"]
    lines += [f"  passes on  {held.name}: {short(held.type)}" for held in stage.passes]
    lines += [f"  holds      {held.name} of each client: {held.bytes} for each" for held in stage.holds]
    lines += _computes(stage.computes)
    if not stage.computes:
        lines.append("  computes   nothing")
    return lines


def _clients(stage: AtClients) -> list[str]:
    lines = [f"client stage {stage.number}, on each client"]
    for sent in stage.receives:
        what = sent.name if sent.slices is None else f"{sliced(sent)}{'' if sent.slices == 1 else ', each'}"
        lines.append(f"  receives   {what}: {short(sent.type)}, {sent.bytes}")
    lines += [f"  has        {held.name}: {short(held.type)}" for held in stage.has]
    lines += _computes(stage.computes)
    for report in stage.reports:
        shown = " and ".join(map(short, report.types))
        mark = "".join(f", {said}" for said in ("protected" if report.protected else "", str(report.terms)) if said)
        lines.append(f"  reports    {report.name}: {shown}, {report.bytes} -> {report.into} at the server{mark}")
    lines += [f"  keeps      {held.name}: {short(held.type)}, stays with the client" for held in stage.keeps]
    lines.append(f"  traffic    {down([stage])}, {stage.bytes_up} up, per client")
    return lines


def _computes(operations: Sequence[Operation]) -> list[str]:
    lines = []
    for operation in operations:
        parts = f" ({', '.join(operation.parts)})" if operation.parts else ""
        flops = f", {operation.flops}" if operation.flops else ""
        lines.append(f"  computes   {operation.name}{parts}: {short(operation.type)}{flops}")
    return lines


def _totals(stages: Sequence[AtServer | AtClients], privacy: Sequence[tuple[str, str, str]]) -> list[str]:
    clients = [stage for stage in stages if isinstance(stage, AtClients)]
    servers = [stage for stage in stages if isinstance(stage, AtServer)]
    at_server = Flops.total(stage.flops for stage in servers)
    if not clients:
        return [f"in all  {at_server}"]
    up = Bytes.total(stage.bytes_up for stage in clients)
    adding = Flops.total(report.flops for stage in clients for report in stage.reports)
    lines = [
        f"each client  {down(clients)}, {up} up; {Flops.total(stage.flops for stage in clients)}",
        f"the server   {at_server}" + (f"; {adding} to add up each client's reports" if adding else ""),
    ]
    said = [f"{label.lower():11}  {text}" for label, text, _ in privacy]
    return [*lines, *seen([report for stage in clients for report in stage.reports]), *said, ""]


def seen(reports: Sequence[Report]) -> list[str]:
    """Who would see what outside of a simulation."""
    open_, protected = ([report for report in reports if report.protected is flag] for flag in (False, True))
    lines = []
    if protected:
        lines.append(f"protected    {_listed(protected)}: in a deployment the server would see only the sum")
    if open_:
        none = "" if protected else "; no sum is protected"
        lines.append(f"seen         {_listed(open_)}: in a deployment the server would see each client's{none}")
    if reports:
        lines.append("             Here all of it is simulated in one process, which sees everything.")
    return lines


def _listed(reports: Sequence[Report]) -> str:
    counts: dict[str, int] = {}
    for report in reports:
        counts[report.into] = counts.get(report.into, 0) + 1
    return ", ".join(name if number == 1 else f"{number} × {name}" for name, number in counts.items())


def short(kind: Type) -> str:
    """A type in a line, cut if it is long."""
    text = kind.compact()
    return text if len(text) <= _LONGEST else f"{text[:80]}… {len(tensor_sizes(member(kind)))} tensors"
