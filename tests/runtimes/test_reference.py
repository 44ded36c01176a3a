"""The reference runtime: it agrees with the compiled one, and shows the user's functions at work."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from hypothesis import given, settings

import hansa
from hansa.types import CLIENTS, FederatedType, SequenceType, Struct, StructType, Type, tensor_leaves, to_value
from tests.runtimes.random_computations import Case, cases

WHOLE = hansa.InProcessRuntime()
CHUNKED = hansa.InProcessRuntime(clients_per_chunk=2)
ALONE = hansa.InProcessRuntime(devices=jax.devices()[:1])


def assert_same(found: Any, expected: Any, kind: Type, where: str = "the result") -> None:
    """Two results of a type have the same structure, dtypes, shapes and integers, and floats that are close."""
    if isinstance(kind, FederatedType):
        if kind.placement is CLIENTS and not kind.all_equal:
            assert isinstance(found, list) and isinstance(expected, list), where
            assert len(found) == len(expected), where
            for i, (a, b) in enumerate(zip(found, expected, strict=True)):
                assert_same(a, b, kind.member, f"{where} at client {i}")
        else:
            assert_same(found, expected, kind.member, where)
    elif isinstance(kind, SequenceType):
        read = elements(found, kind.element)
        assert len(read) == len(expected), where
        for i, (a, b) in enumerate(zip(read, expected, strict=True)):
            assert_same(a, b, kind.element, f"{where}[{i}]")
    elif isinstance(kind, StructType):
        assert type(found) is type(expected) is (kind.container or Struct), where
        assert found._fields == expected._fields == kind.names, where
        for name, a, b, member in zip(kind.names, found, expected, kind, strict=True):
            assert_same(a, b, member, f"{where}.{name}")
    else:
        assert_close(found, expected, kind, where)


def assert_close(found: Any, expected: Any, kind: Any, where: str) -> None:
    if kind.dtype.kind == "U":
        assert found == expected, where
        return
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.dtype == expected.dtype == kind.dtype, where
    assert found.shape == expected.shape and kind.takes_shape(found.shape), where
    if kind.dtype.kind in "biu":
        np.testing.assert_array_equal(found, expected, err_msg=where)
        return
    tolerance = 0.05 if kind.dtype.itemsize == 2 else 1e-4
    wide = np.complex128 if kind.dtype.kind == "c" else np.float64
    np.testing.assert_allclose(
        found.astype(wide), expected.astype(wide), rtol=tolerance, atol=tolerance, equal_nan=True, err_msg=where
    )


def elements(sequence: Any, kind: Type) -> list[Any]:
    """A sequence that was passed on as it was; batches without examples are none."""

    def is_empty(element: Any) -> bool:
        leaves = zip(jax.tree.leaves(element), tensor_leaves(kind), strict=True)
        rows = [len(leaf) for leaf, declared in leaves if declared.shape[:1] == (None,)]
        return bool(rows) and not any(rows)

    return [element for element in (to_value(element, kind) for element in sequence) if not is_empty(element)]


def check(case: Case) -> None:
    kind = case.computation.type_signature.result
    with hansa.runtime(hansa.ReferenceRuntime(case.num_clients)):
        expected = case()
    for runtime in (WHOLE, CHUNKED, ALONE):
        runtime.default_num_clients = case.num_clients
        with hansa.runtime(runtime):
            assert_same(case(), expected, kind)


@settings(max_examples=25, derandomize=True)
@given(cases())
def test_random_computations_have_the_same_result_in_both_runtimes(case: Case) -> None:
    check(case)
