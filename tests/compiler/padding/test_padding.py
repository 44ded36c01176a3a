"""What padding stands on: symbolic sizes, masks and copies of the first row."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from hansa.compiler import padding
from hansa.language.sizes import batch_symbols

B: Any = batch_symbols()[0]


@pytest.mark.parametrize(("dim", "expected"), [(B, 1), (3 * B, 3), ((4 * B) // 2, 2)])
def test_a_multiple_of_the_batch_is_so_many_rows(dim: Any, expected: int) -> None:
    assert padding.multiple(dim) == expected


@pytest.mark.parametrize("dim", [B + 1, B - 1, B // 2, B % 8, B * B])
def test_any_other_size_is_not_supported(dim: Any) -> None:
    with pytest.raises(padding.Unsupported):
        padding.multiple(dim)


def test_sizes_that_are_a_multiple_only_up_to_a_bound_are_not_supported() -> None:
    from jax.core import min_dim

    for bound in (7, 8, 1000):
        with pytest.raises(padding.Unsupported):
            padding.multiple(min_dim(B, bound))


def test_two_axes_of_the_batch_are_not_supported() -> None:
    assert padding.batch_axis((2, B, 3)) == 1
    assert padding.batch_axis((2, 3)) is None
    with pytest.raises(padding.Unsupported):
        padding.batch_axis((B, B))


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("shape", [(B,), (2, B), (2 * B, 3), (2, 3 * B, 2)])
def test_rows_after_the_batch_become_copies_of_its_first_example(shape: tuple[Any, ...], size: int) -> None:
    capacity = 3
    batch = padding.Batch(jnp.int32(size), capacity)
    value = np.arange(np.prod([batch.rows(dim) for dim in shape]), dtype=np.float32)
    value = value.reshape([batch.rows(dim) for dim in shape])
    axis = padding.batch_axis(shape)
    assert axis is not None
    rows = padding.multiple(shape[axis])
    found = np.asarray(padding.copy_first(value, shape, batch))
    for i in range(capacity):
        example = np.take(found, range(i * rows, (i + 1) * rows), axis)
        source = i if i < size else 0
        np.testing.assert_array_equal(example, np.take(value, range(source * rows, (source + 1) * rows), axis))
