"""Rounds of Hugging Face's models, and of a low-rank adapter (Hu et al. 2021), against plain loops of PyTorch."""

from __future__ import annotations

import pytest

from hansa.learning import from_torch
from tests.models.torch.checking import check
from tests.models.torch.hugging_face import MODELS

pytest.importorskip("transformers", reason="pip install transformers peft")
pytest.importorskip("peft", reason="pip install peft")


@pytest.mark.slow
def test_of_a_model_with_adapters_these_are_trained(tmp_path):
    check(MODELS["lora"], tmp_path, thorough=False)
    animal = MODELS["lora"]
    model = from_torch(animal.make(), animal.batch(8), forward=animal.forward)
    assert all("lora_" in name for name in model.initial_weights.trainable._fields)
    base = [name for name in model.initial_weights.non_trainable._fields if "base_layer" in name or "embed" in name]
    assert len(base) >= 5


@pytest.mark.whole
@pytest.mark.parametrize("name", MODELS)
def test_an_epoch_of_two_clients_with_ragged_batches(name, tmp_path):
    check(MODELS[name], tmp_path, thorough=True)
