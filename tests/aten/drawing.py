"""What cases of the table are made of: tensors of random shapes and types."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

FLOATS = torch.float32
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.uint8)


class Draw:
    """Draws arguments for an operation.

    Args:
        seed: what they are a function of.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def size(self, low: int = 1, high: int = 5) -> int:
        return int(self.rng.integers(low, high + 1))

    def shape(self, low: int = 1, high: int = 3) -> tuple[int, ...]:
        return tuple(self.size(1, 4) for _ in range(self.size(low, high)))

    def axis(self, shape: tuple[int, ...]) -> int:
        return int(self.rng.integers(-len(shape), len(shape)))

    def one_of(self, *values: Any) -> Any:
        return values[self.rng.integers(len(values))]

    def floats(self, *shape: int) -> torch.Tensor:
        return torch.tensor(self.rng.normal(size=shape), dtype=FLOATS)

    def positive(self, *shape: int, least: float = 0.1, most: float = 3.0) -> torch.Tensor:
        return torch.tensor(self.rng.uniform(least, most, size=shape), dtype=FLOATS)

    def apart(self, *shape: int) -> torch.Tensor:
        """Numbers of which no two are close, in any order: where the least change does not decide."""
        count = int(np.prod(shape))
        values = self.rng.permutation(count) * 0.37 - 0.18 * count + 0.05
        return torch.tensor(values.reshape(shape), dtype=FLOATS)

    def integers(self, high: int, *shape: int, low: int = 0) -> torch.Tensor:
        return torch.tensor(self.rng.integers(low, high, size=shape))

    def weights(self, *shape: int) -> torch.Tensor:
        """Positive ones, by which PyTorch takes no gradient."""
        found = self.positive(*shape)
        found.fixed = True  # type: ignore[attr-defined]
        return found

    def small(self, *shape: int) -> torch.Tensor:
        """Integers of some type."""
        return self.integers(7, *shape).to(self.one_of(*INTEGERS))

    def numbers(self, *shape: int) -> torch.Tensor:
        """Floats or integers."""
        return self.one_of(self.floats, self.floats, self.small)(*shape)

    def bools(self, *shape: int) -> torch.Tensor:
        return torch.tensor(self.rng.integers(0, 2, size=shape).astype(bool))

    def broadcastable(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape that broadcasts to another."""
        kept = shape[self.size(0, len(shape)) :]
        return tuple(self.one_of(n, 1) for n in kept)
