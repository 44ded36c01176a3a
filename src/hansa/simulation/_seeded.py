"""Seeds of samplers: the user's, or none, in whose place a private run has a secret one."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np

from hansa.simulation._random import generator
from hansa.simulation._values import integer


class Seeded:
    """What draws by a seed and the number of a round.

    Attributes:
        seed: of the draws; 0 where none is given.
        is_open: whether it was given, so that whoever reads the program knows who takes part.

    Examples:
        >>> sampler = hansa.simulation.PoissonSampler(10, 0.3)
        >>> sampler.is_open, sampler.claim
        (False, {'kind': 'poisson', 'probability': 0.3})
        >>> sampler.with_secret(2**200 + 1)
        PoissonSampler(each of 10 clients with 0.3, secret seed)
    """

    def __init__(self, seed: int | None) -> None:
        self.seed = 0 if seed is None else integer("seed", seed, 0)
        self.is_open, self._is_secret = seed is not None, False

    def with_secret(self, seed: int) -> Self:
        """The same, but that it draws by a secret seed, which it does not print."""
        made = copy.copy(self)
        made.seed, made.is_open, made._is_secret = seed, False, True
        return made

    def _draws(self, round_number: Any) -> np.random.Generator:
        return generator(self.seed, "cohort", integer("round_number", round_number, 0))

    @property
    def _seed_text(self) -> str:
        return "secret seed" if self._is_secret else f"seed {self.seed}"
