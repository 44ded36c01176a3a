"""Models of Hugging Face's Transformers in small, and one wrapped by PEFT: their own code, with weights drawn here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from tests.models.torch.zoo import Animal

SIZES = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
WITHOUT_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def text(n: int, length: int = 10) -> tuple[Any, Any]:
    """Sentences of several lengths, filled up with zeros, and where they are not."""
    rng = np.random.default_rng(n)
    mask = np.arange(length) < rng.integers(4, length + 1, (n, 1))
    return np.where(mask, rng.integers(3, 60, (n, length)), 0), mask.astype("int64")


def of_a_class(n: int) -> dict[str, Any]:
    tokens, mask = text(n)
    return {"x": {"input_ids": tokens, "attention_mask": mask}, "y": np.random.default_rng(n).integers(0, 3, n)}


def goes_on(n: int) -> dict[str, Any]:
    tokens, mask = text(n)
    return {"x": {"input_ids": tokens, "attention_mask": mask}, "y": np.where(mask, tokens, -100)}


def translated(n: int) -> dict[str, Any]:
    tokens, mask = text(n)
    after, known = (part[:n] for part in text(n + 7, 8))
    x = {"input_ids": tokens, "attention_mask": mask, "decoder_input_ids": np.roll(after, 1, 1)}
    return {"x": x, "y": np.where(known, after, -100)}


def pictures(n: int) -> dict[str, Any]:
    rng = np.random.default_rng(n)
    return {"x": {"pixel_values": rng.normal(size=(n, 3, 16, 16)).astype("float32")}, "y": rng.integers(0, 3, n)}


def forward(module: Any, batch: Any) -> Any:
    found = module(**batch["x"], labels=batch["y"])
    return found.loss, found.logits


def scores(module: Any, x: Any) -> Any:
    return module(**x).logits


def bert() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(
        BertConfig(**SIZES, **WITHOUT_DROPOUT, max_position_embeddings=16, num_labels=3)
    )


def distilbert() -> nn.Module:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    none = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
    config = DistilBertConfig(
        vocab_size=60, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=16, num_labels=3, **none
    )
    return DistilBertForSequenceClassification(config)


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=60, n_embd=16, n_layer=2, n_head=2, n_positions=16, **none, **ENDS))


def vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {name: size for name, size in SIZES.items() if name != "vocab_size"}
    return ViTForImageClassification(ViTConfig(**sizes, **WITHOUT_DROPOUT, image_size=16, patch_size=4, num_labels=3))


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**{**SIZES, **heads}, **ENDS, max_position_embeddings=16))


def t5() -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=60, d_model=16, d_kv=8, num_layers=2, num_heads=2, d_ff=32, dropout_rate=0.0, **ENDS)
    return T5ForConditionalGeneration(config)


def lora() -> nn.Module:
    from peft import LoraConfig, get_peft_model

    adapters = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    return get_peft_model(llama(), adapters)


def _animal(make: Callable[[], nn.Module], batch: Callable[[int], dict[str, Any]]) -> Animal:
    return Animal(make, batch, None, forward, predict=scores)


MODELS: dict[str, Animal] = {
    "bert": _animal(bert, of_a_class),
    "distilbert": _animal(distilbert, of_a_class),
    "gpt2": _animal(gpt2, goes_on),
    "vit": _animal(vit, pictures),
    "llama": _animal(llama, goes_on),
    "t5": _animal(t5, translated),
    "lora": _animal(lora, goes_on),
}
