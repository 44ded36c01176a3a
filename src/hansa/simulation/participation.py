"""What becomes of the clients that a round selects: some drop out, some are too slow, the others count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa._tracebacks import boundaries
from hansa.simulation._random import generator
from hansa.simulation._values import integer, number
from hansa.simulation.samplers import Cohort, Sampler
from hansa.types.mismatch import describe


@boundaries
@dataclass(frozen=True, eq=False, repr=False)
class Participation:
    """The outcome of a round's selection.

    Attributes:
        round_number: the round.
        selected: int64 [selected], the positions of the clients that were selected.
        outcomes: strings [selected]: 'counted'; 'dropped', who never reported; or 'late', who would have reported after
            the round was over.
        seconds: float64 [selected], when each reports, from the beginning of the round; infinite for who dropped out.
        duration: how long the round took, in seconds: until the last report that counted, or to the deadline if fewer
            reports than wanted came in.

    Examples:
        >>> sampler = hansa.simulation.UniformSampler(len(data), 6, seed=1)
        >>> who = hansa.simulation.SimulatedParticipation(sampler, data.sizes, dropout=0.3, spread=0.3, deadline=180)(1)
        >>> who.outcomes
        array(['dropped', 'counted', 'late', 'counted', 'dropped', 'late'],
              dtype='<U7')
        >>> who.counted, who.dropped, who.late
        (array([0, 8]), array([3, 4]), array([2, 1]))
    """

    round_number: int
    selected: Cohort
    outcomes: npt.NDArray[np.str_]
    seconds: npt.NDArray[np.float64]
    duration: float

    @property
    def counted(self) -> Cohort:
        """The positions of the clients that count, in the order of the selection: the cohort to compute with."""
        return self._with("counted")

    @property
    def dropped(self) -> Cohort:
        """The positions of the clients that never reported."""
        return self._with("dropped")

    @property
    def late(self) -> Cohort:
        """The positions of the clients that were too late."""
        return self._with("late")

    def _with(self, outcome: str) -> Cohort:
        chosen: Cohort = self.selected[self.outcomes == outcome]
        return chosen

    def __repr__(self) -> str:
        return (
            f"Participation(round {self.round_number}: {len(self.counted)} of {len(self.selected)} counted, "
            f"{len(self.dropped)} dropped, {len(self.late)} late, {self.duration:.1f} s)"
        )


@boundaries
class SimulatedParticipation:
    """Dropout and stragglers, client by client; a function of the seed and the number of the round.

    A round selects the clients that a sampler gives. Each drops out with its probability. The others report after

        examples * seconds_per_example * exp(spread * normal draw)

    seconds. The round is over at the deadline, or as soon as `goal` clients have reported, and who comes later is late.
    So a round can select more clients than it wants, as Bonawitz et al. do ("Towards Federated Learning at Scale:
    System Design" (2019), arXiv:1902.01046: 130 % of the goal).

    Args:
        sampler: gives the clients that a round selects.
        examples: [clients], how many examples each client goes through in a round: `data.sizes`.
        dropout: the probability to drop out, of all clients or of each, [clients].
        seconds_per_example: the speed, of all clients or of each, [clients].
        spread: the standard deviation of the logarithm of a client's duration from round to round.
        deadline: in seconds from the beginning of a round; by default a round waits for all who have not dropped out.
        goal: how many reports a round wants; by default all that come.
        seed: decides it all.

    Examples:
        >>> sampler = hansa.simulation.UniformSampler(len(data), 6, seed=1)
        >>> participation = hansa.simulation.SimulatedParticipation(sampler, data.sizes, dropout=0.3, goal=3, seed=2)
        >>> who = participation(1)
        >>> who.selected, who.counted
        (array([3, 0, 2, 8, 4, 1]), array([3, 2, 8]))
        >>> cohort = data.cohort(who.counted, 1)
    """

    def __init__(
        self,
        sampler: Sampler,
        examples: npt.ArrayLike,
        *,
        dropout: float | npt.ArrayLike = 0.0,
        seconds_per_example: float | npt.ArrayLike = 1.0,
        spread: float = 0.0,
        deadline: float | None = None,
        goal: int | None = None,
        seed: int = 0,
    ) -> None:
        if not callable(sampler):
            raise TypeError(f"sampler must be a function of the number of a round; found {describe(sampler)}")
        self._sampler = sampler
        self._examples = np.asarray(examples)
        if self._examples.ndim != 1 or self._examples.dtype.kind not in "iu" or (self._examples < 0).any():
            raise ValueError(
                f"examples must be one number for each client, as data.sizes, none negative; found "
                f"{describe(self._examples)}"
            )
        clients = len(self._examples)
        self._dropout = _for_clients("dropout", dropout, clients, most=1.0)
        self._speed = _for_clients("seconds_per_example", seconds_per_example, clients, most=np.inf)
        self._spread = number("spread", spread, 0, inclusive=True)
        self._deadline = np.inf if deadline is None else number("deadline", deadline, 0)
        self._goal = None if goal is None else integer("goal", goal, 1)
        self._seed = integer("seed", seed, 0)

    def __call__(self, round_number: int) -> Participation:
        """What becomes of the clients of a round.

        Raises:
            IndexError: if the sampler gives a position beyond those of `examples`.
        """
        selected = np.asarray(self._sampler(round_number), np.int64)
        outside = selected[(selected < 0) | (selected >= len(self._examples))]
        if outside.size:
            raise IndexError(
                f"the sampler selects the client at position {outside[0]}, but examples is of {len(self._examples)} "
                "clients; give both the same population"
            )
        draws = generator(self._seed, "participation", integer("round_number", round_number, 0))
        drops = draws.random(len(selected)) < self._dropout[selected]
        pace = np.exp(self._spread * draws.standard_normal(len(selected)))
        seconds = np.where(drops, np.inf, self._examples[selected] * self._speed[selected] * pace)
        order = np.argsort(seconds, kind="stable")
        in_time = order[seconds[order] <= self._deadline]
        in_time = in_time[np.isfinite(seconds[in_time])][: self._goal]
        outcomes = np.where(drops, "dropped", "late")
        outcomes[in_time] = "counted"
        last = float(seconds[in_time].max(initial=0.0))
        complete = len(in_time) == (len(selected) if self._goal is None else min(self._goal, len(selected)))
        duration = last if complete or not np.isfinite(self._deadline) else self._deadline
        return Participation(round_number, selected, outcomes, seconds, duration)

    def __repr__(self) -> str:
        parts = [repr(self._sampler)]
        if self._goal is not None:
            parts.append(f"goal {self._goal}")
        if np.isfinite(self._deadline):
            parts.append(f"deadline {self._deadline:g} s")
        return f"SimulatedParticipation({', '.join(parts)}, seed {self._seed})"


def _for_clients(name: str, value: Any, clients: int, most: float) -> npt.NDArray[np.float64]:
    """A number for each client, given as one for all or as one for each; between 0 and `most`."""
    found = np.asarray(value)
    if found.dtype.kind not in "iuf" or found.shape not in ((), (clients,)):
        raise ValueError(
            f"{name} must be one number, or one for each of the {clients} clients; found {describe(value)}"
        )
    if not ((found >= 0) & (found <= most) & np.isfinite(found)).all():
        bounds = "0 or more" if most == np.inf else f"from 0 to {most:g}"
        raise ValueError(f"{name} must be {bounds}; found {found.min():g} to {found.max():g}")
    return np.broadcast_to(found.astype(np.float64), (clients,))
