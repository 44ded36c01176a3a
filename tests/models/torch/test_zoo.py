"""Rounds of PyTorch modules of many kinds against plain loops of PyTorch."""

from __future__ import annotations

import pytest

from tests.models.torch.checking import check
from tests.models.torch.zoo import QUICK, SLOW, ZOO


@pytest.mark.parametrize("name", QUICK)
def test_an_epoch_of_two_clients_with_ragged_batches(name, tmp_path):
    check(ZOO[name], tmp_path, thorough=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_more_of_the_zoo(name, tmp_path):
    check(ZOO[name], tmp_path, thorough=True)


@pytest.mark.whole
@pytest.mark.parametrize("name", [name for name in ZOO if name not in (*QUICK, *SLOW)])
def test_the_rest_of_the_zoo(name, tmp_path):
    check(ZOO[name], tmp_path, thorough=True)
