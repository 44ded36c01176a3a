"""What a computation must be: private, protected; and the noised sums that it releases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hansa.language.computation import Computation
from hansa.language.computations import GraphComputation, PolymorphicComputation
from hansa.language.flows import Flows, Release, begins, flows_of
from hansa.privacy.mechanisms import known_mechanism
from hansa.templates import IterativeProcess
from hansa.types.mismatch import describe

_SHOWN = 5


def releases(computation: Computation | IterativeProcess) -> list[Release]:
    """The sums with noise that leave a computation: what an accountant charges for one call of it.

    Args:
        computation: with declared types, or a process, whose `next` is meant.

    Returns:
        A `Release` for each sum, with its `mechanism`, the `paths` of the results that are made of it, and `where` it
        is in the user's code. What leaves without noise is not among them: `require_private` says whether there is
        such. Of a computation that was loaded from a file they are what the file says, as for `require_private`.

    Raises:
        TypeError: if it is no such computation.

    Examples:
        >>> @hansa.federated_computation("{float32}@CLIENTS")
        ... def total(values):
        ...     return hansa.federated_private_sum(values, 1.0, hansa.privacy.Gaussian(2.0))
        >>> [(release.paths, release.mechanism) for release in hansa.privacy.releases(total)]
        [(('the result',), Gaussian(noise_multiplier=2.0))]
    """
    found = _flows(computation, "releases").releases
    return [replace(release, mechanism=known_mechanism(release.mechanism)) for release in found]


def require_private(computation: Computation | IterativeProcess, *, open: tuple[str, ...] = ()) -> None:
    """Checks that all results at the server are made of noised sums, and of nothing else of the clients.

    Results that stay with the clients are theirs, and are not looked at. The argument's part at the server, such as the
    state of a process, counts as private: a run is private if each of its rounds is. In a file a stage is one function,
    and cannot be looked into: of a computation that `hansa.load` gives this checks what it was when it was saved. Who
    wrote the file could have written anything there, so load it from whom you trust.

    Args:
        computation: with declared types, or a process, whose `next` is meant.
        open: the paths of results that may leave without noise, with all that is in them, such as `("metrics",)`. The
            state of a process is none of them.

    Raises:
        TypeError: if it is no such computation.
        ValueError: if a result is made of the clients' values without noise. The message names the results, the
            operations, and their lines.

    Examples:
        >>> @hansa.federated_computation("{float32}@CLIENTS")
        ... def total(values):
        ...     return hansa.federated_sum(values)
        >>> hansa.privacy.require_private(total)
        Traceback (most recent call last):
            ...
        ValueError: 'total' is not private: the result is made of federated_sum at ..., without noise; ...
    """
    flows = _flows(computation, "require_private")
    allowed = () if isinstance(computation, IterativeProcess) and _is_state(computation) else open
    found: dict[str, dict[str, None]] = {}
    for source, paths in flows.bare.items():
        closed = [path for path in paths if not any(begins(path, start) for start in allowed)]
        if closed:
            found.setdefault(str(source), {}).update(dict.fromkeys(closed))
    if found:
        name = _computation(computation, "require_private").name
        said = "; ".join(f"{_listed(list(paths))} made of {source}" for source, paths in list(found.items())[:_SHOWN])
        more = f"; and {len(found) - _SHOWN} operations more" if len(found) > _SHOWN else ""
        raise ValueError(
            f"{name!r} is not private: {said}, without noise{more}; take federated_private_sum in their place, or "
            "leave these results out"
        )


def require_protected(computation: Computation | IterativeProcess) -> None:
    """Checks that the server sees sums over clients only, and nothing of one client.

    Args:
        computation: with declared types, or a process, whose `next` is meant.

    Raises:
        TypeError: if it is no such computation.
        ValueError: if some aggregate brings each client's contribution to the server. The message names the operations,
            and their lines.

    Examples:
        >>> @hansa.federated_computation("{int32}@CLIENTS")
        ... def votes(answers):
        ...     return hansa.federated_secure_sum(answers, 1)
        >>> hansa.privacy.require_protected(votes)
    """
    flows = _flows(computation, "require_protected")
    if flows.unprotected:
        names = list(dict.fromkeys(map(str, flows.unprotected)))
        name = _computation(computation, "require_protected").name
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise ValueError(
            f"{name!r} is not protected: the server sees what each client gives to {', '.join(names[:_SHOWN])}{more}; "
            "take federated_secure_sum or federated_private_sum in their place, or say disclosure='sum' there"
        )


def _is_state(process: IterativeProcess) -> bool:
    """Whether a process gives its next state, and nothing beside it."""
    return process.state_type.is_assignable_from(process.next.type_signature.result)


def _flows(computation: Any, what: str) -> Flows:
    return flows_of(_computation(computation, what))


def _computation(computation: Any, what: str) -> Computation:
    found = getattr(computation, "next", computation)
    if isinstance(found, PolymorphicComputation) or not isinstance(found, Computation):
        raise TypeError(f"{what} takes a computation with declared types, or a process; found {describe(computation)}")
    if not isinstance(found, GraphComputation):
        raise TypeError(
            f"{what} takes a federated computation; {found.name!r} is a local one, which brings nothing to the server"
        )
    return found


def _listed(paths: list[str]) -> str:
    shown = paths[:3]
    rest = len(paths) - len(shown)
    names = ", ".join(shown) + (f" and {rest} more" if rest else "")
    return f"{names} {'is' if len(paths) == 1 else 'are'}"
