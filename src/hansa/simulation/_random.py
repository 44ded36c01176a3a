"""Random draws that are functions of a seed, of what they are for, and of numbers such as a round's."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from hansa.simulation._values import integer


def generator(seed: Any, purpose: str, *draw: int) -> np.random.Generator:
    """A generator whose numbers have nothing to do with those of another purpose, or of another draw.

    Args:
        seed: the user's argument `seed`; the same one may serve several purposes.
        purpose: what is drawn, in a word.
        draw: integers that are not negative.
    """
    # As spawn keys, since a sequence of entropy does not tell a zero at its end from nothing.
    key = (zlib.crc32(purpose.encode()), *map(int, draw))
    return np.random.default_rng(np.random.SeedSequence(integer("seed", seed, 0), spawn_key=key))
