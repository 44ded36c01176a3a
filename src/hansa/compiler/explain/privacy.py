"""What an explanation says of privacy: which results are made of noised sums, and which of the clients' values."""

from __future__ import annotations

from collections.abc import Sequence

from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation
from hansa.language.flows import Flows, flows_of

_SHOWN = 4


def flows_in(computation: Computation) -> Flows:
    """What the results of a computation are made of; of a local one, of nothing of the clients."""
    return flows_of(computation) if isinstance(computation, GraphComputation) else Flows((), (), ())


def privacy_of(flows: Flows) -> list[tuple[str, str, str]]:
    """Lines about a computation with noise, each a label, a text and a style; none of one without."""
    if not flows.releases:
        return []
    noises = list(dict.fromkeys(str(release.mechanism) for release in flows.releases))
    lines = []
    if private := flows.paths("private"):
        lines.append(
            ("Private", f"{_listed(private)}: of the clients only sums with noise: {'; '.join(noises)}", "safe")
        )
    if released := flows.paths("released"):
        lines.append(("Released", f"{_listed(released)}: without noise; nothing is promised for them", "soft"))
    if kept := flows.paths("kept"):
        lines.append(("Kept", f"{_listed(kept)}: stays with the clients, and is theirs", "soft"))
    return lines


def _listed(paths: Sequence[str]) -> str:
    shown = ", ".join(paths[:_SHOWN])
    return shown if len(paths) <= _SHOWN else f"{shown} and {len(paths) - _SHOWN} more"
