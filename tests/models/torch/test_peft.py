"""Adapters of PEFT in modules of Hugging Face: merged beside PEFT's own merging, written to files that PEFT reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import hansa
from hansa.learning import load_adapters, merge_adapters, save_adapters, with_weights

pytest.importorskip("transformers", reason="pip install transformers peft")
peft = pytest.importorskip("peft", reason="pip install peft")
from tests.models.torch import hugging_face as small  # noqa: E402

KINDS = {
    "gpt2": (small.gpt2, {"target_modules": ["c_attn", "attn.c_proj"], "task_type": "CAUSAL_LM"}),
    "llama": (small.llama, {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"v_proj": 2}}),
    "bert": (small.bert, {"target_modules": ["query", "word_embeddings"], "task_type": "SEQ_CLS"}),
}


def adapted(kind: str) -> Any:
    """A module with adapters none of whose factors is zero, and heads that are not those of the base."""
    torch.manual_seed(3)
    make, options = KINDS[kind]
    module = peft.get_peft_model(make(), peft.LoraConfig(r=4, lora_alpha=6, **options))
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape) * 0.3)
    return module.eval()


def outputs(module: Any) -> Any:
    tokens, mask = small.text(4)
    with torch.no_grad():
        found = module.eval()(input_ids=torch.from_numpy(tokens), attention_mask=torch.from_numpy(mask)).logits
    return found.numpy()


def weights_of(module: Any) -> Any:
    sample = small.of_a_class(4) if hasattr(module.base_model.model, "classifier") else small.goes_on(4)
    return hansa.learning.from_torch(module, sample, forward=small.forward, optimizer="sgd", learning_rate=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_merged_written_and_read(kind, tmp_path):
    module = adapted(kind)
    model = weights_of(module)
    weights, expected = model.initial_weights, outputs(module)
    plain = KINDS[kind][0]()
    assert np.abs(outputs(plain) - expected).max() > 0.05
    for known in (model, module):
        merge_adapters(weights, known).assign_weights_to(plain)
        np.testing.assert_allclose(outputs(plain), expected, rtol=1e-4, atol=2e-5)

    # PEFT reads what was written, on a base that comes from elsewhere.
    for folder, known in (("own", module), ("made", model)):
        save_adapters(
            weights, tmp_path / folder, known, base_model="small", task_type=module.peft_config["default"].task_type
        )
        base = adapted(kind).unload()
        read = peft.PeftModel.from_pretrained(base, str(tmp_path / folder))
        np.testing.assert_allclose(outputs(read), expected, rtol=1e-5, atol=1e-5)

    # What PEFT writes is read here.
    module.save_pretrained(str(tmp_path / "peft"))
    zeros = hansa.learning.ModelWeights.create(
        hansa.Struct([(name, np.zeros_like(leaf)) for name, leaf in weights.trainable._items()]), weights.non_trainable
    )
    found = load_adapters(tmp_path / "peft", zeros, model)
    for name, leaf in weights.trainable._items():
        np.testing.assert_array_equal(found.trainable[name], leaf, err_msg=str(name))


@pytest.mark.slow
def test_a_base_of_hugging_face_goes_under_adapters():
    module = adapted("bert")
    state = hansa.learning.build_federated_averaging_process(weights_of(module)).initialize()
    torch.manual_seed(9)
    other = small.bert()
    found = with_weights(state, other)
    found.model.assign_weights_to(module)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "lora_embedding" in name or "lora_B" in name:
                parameter.zero_()
    np.testing.assert_allclose(outputs(module), outputs(other), rtol=1e-5, atol=1e-6)
    lacking = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="is another model"):
        with_weights(state, lacking)


@pytest.mark.slow
def test_dora_is_left_to_peft():
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], use_dora=True)
    module = peft.get_peft_model(small.llama(), config)
    weights = hansa.learning.ModelWeights.create(
        hansa.Struct(sorted((n, p.detach().numpy()) for n, p in module.named_parameters() if p.requires_grad)),
        hansa.Struct(sorted((n, p.detach().numpy()) for n, p in module.named_parameters() if not p.requires_grad)),
    )
    with pytest.raises(ValueError, match="let PEFT merge them"):
        merge_adapters(weights, scale=1.0)


@pytest.mark.slow
def test_what_gpt2_writes_is_what_its_own_generate_does():
    torch.manual_seed(2)
    module = small.gpt2().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(4)
    draws, rows = np.random.default_rng(1), []
    coding = hansa.simulation.TokenCoding(
        lambda text: [int(n) for n in text.split()], 12, end=2, inputs="input_ids", mask="attention_mask"
    )
    for _ in range(6):
        prompt = draws.integers(3, 60, draws.integers(1, 5))
        with torch.no_grad():
            found = module.generate(torch.from_numpy(prompt[None]), max_new_tokens=6, do_sample=False, pad_token_id=0)
        rows.append((prompt, found[0, len(prompt) :].tolist()))
    assert len({tuple(answer) for _, answer in rows}) > 3
    arrays = coding.answers(*([" ".join(map(str, part)) for part in side] for side in zip(*rows, strict=True)))
    batch = {"x": {name: arrays.pop(name) for name in ("input_ids", "attention_mask")}, **arrays}

    def forward(module: Any, batch: Any) -> Any:
        logits = module(**batch["x"]).logits
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch["y"], reduction="none")
        return (losses * batch["sample_weight"]).sum() / batch["sample_weight"].sum(), logits

    model = hansa.learning.from_torch(module, batch, forward=forward, optimizer="sgd", learning_rate=0.1)
    # The true answers are what it wrote, without the end that is put after them.
    ends = batch["y"] == 2
    batch["sample_weight"] = np.where(ends, 0, batch["sample_weight"]).astype("float32")
    metrics = {"same": hansa.learning.exact_match(), "rouge": hansa.learning.rouge_l()}
    writer = hansa.learning.generating(model, tokens="x/input_ids", mask="x/attention_mask", metrics=metrics)
    found = hansa.learning.build_federated_evaluation(writer)(model.initial_weights, [[batch]])
    assert (found.same, found.rouge) == (1, 1)
