"""Every rule gives what the function gives on the true batch, whatever stands in the rows after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from hansa.compiler import padding
from hansa.language.local import LocalFunction, tensors
from hansa.language.sizes import batch_symbols
from hansa.types import StructType, parse_type
from tests.compiler.padding.batch_functions import BRANCHED, PADDED

CAPACITY = 3
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
GARBAGE = {"nan": (np.nan, -1), "inf": (np.inf, 2**62), "large": (-1e30, -(2**40)), "one": (1.0, 1)}


class Case:
    """A function, for true batches and for padded ones."""

    def __init__(self, kinds: tuple[str, ...], function: Callable[..., Any]) -> None:
        self.kind = StructType([(None, parse_type(kind)) for kind in kinds])
        self.local = LocalFunction(function, self.kind, tuple(range(len(self.kind))), "f")
        b = batch_symbols()[0]
        self.shapes = [(b, *leaf.shape[1:]) for leaf in tensors(self.kind)]
        self.plain = jax.jit(
            lambda batches: [jax.tree.leaves(function(*batch)) for batch in batches], compiler_options=QUICK
        )
        self.padded = jax.jit(self._padded, compiler_options=QUICK)

    def true(self, batches: list[list[Any]]) -> list[list[Any]]:
        with jax.enable_x64(True):
            return jax.tree.map(np.asarray, self.plain(batches))

    def on(self, leaves: list[Any], size: int) -> list[Any]:
        with jax.enable_x64(True):
            return [np.asarray(x) for x in self.padded(leaves, np.int32(size))]

    def _padded(self, leaves: list[Any], size: Any) -> list[Any]:
        avals = [jax.ShapeDtypeStruct(shape, leaf.dtype) for shape, leaf in zip(self.shapes, leaves, strict=True)]
        traced = self.local.trace(avals)
        batch = padding.Batch(size, CAPACITY)
        args = [padding.copy_first(leaf, shape, batch) for leaf, shape in zip(leaves, self.shapes, strict=True)]
        return padding.evaluate(traced.jaxpr, args, batch)

    def batch(self, size: int, seed: int) -> list[Any]:
        """Ordinary numbers, some of them zero or negative; integers from 0 to 5."""
        rng = np.random.default_rng(seed)
        leaves = []
        for leaf in tensors(self.kind):
            shape = (size, *leaf.shape[1:])
            if leaf.dtype.kind == "f":
                leaves.append(rng.normal(size=shape) * (rng.random(shape) > 0.1))
            else:
                leaves.append(rng.integers(0, 6, shape))
        return leaves


def pad(leaves: list[Any], garbage: tuple[float, int]) -> list[Any]:
    after = CAPACITY - len(leaves[0])
    return [
        np.concatenate([leaf, np.full((after, *leaf.shape[1:]), garbage[leaf.dtype.kind != "f"], leaf.dtype)])
        for leaf in leaves
    ]


def cut(values: list[Any], like: list[Any]) -> list[Any]:
    return [x[tuple(slice(n) for n in y.shape)] for x, y in zip(values, like, strict=True)]


@pytest.mark.parametrize("name", PADDED)
def test_the_padded_batch_gives_what_the_true_one_gives(name: str) -> None:
    case = Case(*PADDED[name])
    batches = [case.batch(size, seed=size) for size in range(1, CAPACITY + 1)]
    for leaves, expected in zip(batches, case.true(batches), strict=True):
        for garbage in GARBAGE.values():
            size = len(leaves[0])
            found = cut(case.on(pad(leaves, garbage), size), expected)
            for x, y in zip(found, expected, strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12, err_msg=f"{size} examples, then {garbage}")


@pytest.mark.parametrize("name", BRANCHED)
def test_what_has_no_rule_is_refused(name: str) -> None:
    kinds, function = BRANCHED[name]
    case = Case(kinds, function)
    leaves = case.batch(CAPACITY, seed=0)
    try:
        avals = [jax.ShapeDtypeStruct(shape, leaf.dtype) for shape, leaf in zip(case.shapes, leaves, strict=True)]
        case.local.trace(avals)
    except Exception:
        return  # JAX cannot trace it for a batch of unknown size
    with pytest.raises(padding.Unsupported):
        case.on(leaves, CAPACITY)
