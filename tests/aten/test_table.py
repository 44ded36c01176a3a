"""Operations of the table against PyTorch's, forward and gradient, of random shapes and types."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.aten import OPERATIONS, find
from tests.aten import layer_cases
from tests.aten.cases import CASES, Case
from tests.aten.comparing import compare
from tests.aten.drawing import Draw

assert layer_cases
SEEDS = st.integers(0, 2**31 - 1)


def check(case: Case, seed: int) -> None:
    args = case.arguments(Draw(seed))
    kwargs = args[-1] if isinstance(args[-1], dict) else {}
    args = args[:-1] if kwargs else args
    operation = find(case.name)
    assert operation is not None, case.name
    compare(case.name, args, kwargs, case.tolerance, case.gradient, case.results)


@pytest.mark.parametrize("case", CASES[::30], ids=str)
def test_a_sample(case):
    check(case, 1)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES[1::12], ids=str)
def test_a_larger_sample(case):
    check(case, 1)


@pytest.mark.whole
@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=25)
@given(seed=SEEDS)
def test_all_of_them_often(case, seed):
    check(case, seed)


def test_names_are_of_operations_that_pytorch_has():
    import torch

    unknown = [name for name in OPERATIONS if not hasattr(torch.ops.aten, name.partition(".")[0])]
    assert set(unknown) <= {"sym_size", "sym_numel"}, unknown
