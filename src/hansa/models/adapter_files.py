"""Adapters as the two files that PEFT writes and reads: `adapter_model.safetensors` and `adapter_config.json`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hansa._extras import require
from hansa._files import replacing
from hansa.models import frontends
from hansa.models.adapter_merging import adapters_with_scale, by_name
from hansa.models.adapters import Adapter, Adapters, base_names
from hansa.models.weights import ModelWeights
from hansa.types import Struct
from hansa.types.names import listing

if TYPE_CHECKING:
    import keras
    import torch

    from hansa.models.model import FunctionalModel

_TENSORS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."


def save_adapters(
    weights: ModelWeights,
    folder: str | os.PathLike[str],
    model: FunctionalModel | keras.Model | torch.nn.Module | None = None,
    *,
    adapters: Adapters | None = None,
    scale: float | None = None,
    base_model: str | None = None,
    task_type: str | None = None,
) -> None:
    """Writes adapters as PEFT does: the folder has `adapter_model.safetensors` and `adapter_config.json`.

    PEFT reads it, with `PeftModel.from_pretrained(module, folder)`, if the module has submodules of the paths that the
    base has here: always where the adapters are PEFT's own. Matrices of other libraries are turned to lie as those of
    PyTorch do; one whose name ends in `weight` lies so already. Copies of whole modules that PEFT trains
    (`modules_to_save`) are written, too.

    Args:
        weights: such as `state.model` of a process that trains a model with adapters.
        folder: where to write; it is made if it is not there, and files of these names are replaced.
        model, adapters, scale: as of `merge_adapters`. Of a module of PEFT, its own configuration is written.
        base_model: the name or the folder of the base, for those who load the adapters.
        task_type: what the model is for, in PEFT's words, such as "CAUSAL_LM"; by default what the module says.

    Raises:
        TypeError, ValueError: as `merge_adapters`; or if a weight is trained that is of no adapter, or an adapter has
            more than two axes: PEFT has no such, and `merge_adapters` can do.
        ImportError: if safetensors is not installed.
        OSError: if a file cannot be written.

    Examples:
        >>> layers = [keras.Input((64,)), keras.layers.Dense(10, use_bias=False, name="scores")]
        >>> adapted = keras.Sequential(layers)
        >>> adapted.layers[0].enable_lora(2)
        >>> adapted.compile("sgd", "mse")
        >>> model = hansa.learning.from_compiled_keras_model(adapted, sample_batch={"x": x, "y": np.eye(10)[y]})
        >>> hansa.learning.save_adapters(model.initial_weights, "adapters", model, base_model="scores")
        >>> same = hansa.learning.load_adapters("adapters", model.initial_weights, model)
    """
    found = adapters_with_scale(weights, model, adapters, scale, "save_adapters")
    leaves = by_name(weights)
    copies = {
        name: _PREFIX + str(plain)
        for name, plain in base_names(leaves, found).items()
        if ".modules_to_save." in name and plain is not None
    }
    factors = {name for each in found for name in (each.first, each.second)}
    beyond = [str(name) for name in weights["trainable"]._fields if name not in factors and name not in copies]
    if beyond:
        raise ValueError(
            f"{listing(beyond)} are trained beside the adapters, and files of adapters have no place for them: write "
            "the whole model, with hansa.learning.merge_adapters, or freeze them before training (in PEFT, modules "
            "that are trained whole are named in modules_to_save)"
        )
    placed = [_placed(each, leaves) for each in found]
    tensors = {name: leaves[of] for of, name in copies.items()}
    for each in placed:
        tensors |= {f"{_PREFIX}{each.module}.{name}": value for name, value in each.factors.items()}
    config = _own_config(model) if model is not None else None
    config = _config(placed, copies) if config is None else config
    if base_model is not None:
        config["base_model_name_or_path"] = base_model
    if task_type is not None:
        config["task_type"] = task_type
    numpy = require("safetensors.numpy", "safetensors", "hansa.learning.save_adapters")
    at = Path(folder)
    at.mkdir(parents=True, exist_ok=True)
    with replacing(at / _TENSORS) as part:
        numpy.save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, part, {"format": "pt"})
    with replacing(at / _CONFIG) as part:
        Path(part).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def load_adapters(
    folder: str | os.PathLike[str],
    like: ModelWeights,
    model: FunctionalModel | keras.Model | torch.nn.Module | None = None,
    *,
    adapters: Adapters | None = None,
    scale: float | None = None,
) -> ModelWeights:
    """Reads adapters that PEFT or `save_adapters` wrote, onto the base that other weights have.

    Args:
        folder: with `adapter_model.safetensors` and `adapter_config.json`.
        like: the weights of a model with adapters of the same ranks, such as `process.initialize().model`.
        model, adapters, scale: as of `merge_adapters`.

    Returns:
        The weights with the factors, and the copies of whole modules, of the file.

    Raises:
        TypeError, ValueError: as `merge_adapters`; or if the file lacks an adapter of the model, has one that is left
            over, or one of another shape, or says another scale than the model.
        ImportError: if safetensors is not installed.
        OSError: if a file cannot be read.

    Examples:
        >>> layers = [keras.Input((64,)), keras.layers.Dense(10, use_bias=False, name="scores")]
        >>> adapted = keras.Sequential(layers)
        >>> adapted.layers[0].enable_lora(2)
        >>> adapted.compile("sgd", "mse")
        >>> model = hansa.learning.from_compiled_keras_model(adapted, sample_batch={"x": x, "y": np.eye(10)[y]})
        >>> hansa.learning.save_adapters(model.initial_weights, "adapters", model)
        >>> weights = hansa.learning.load_adapters("adapters", model.initial_weights, model)
        >>> weights.trainable["scores/lora_kernel_a"].shape
        (64, 2)
    """
    found = adapters_with_scale(like, model, adapters, scale, "load_adapters")
    leaves, at = by_name(like), Path(folder)
    numpy = require("safetensors.numpy", "safetensors", "hansa.learning.load_adapters")
    config = json.loads((at / _CONFIG).read_text("utf-8"))
    try:
        tensors = dict(numpy.load_file(at / _TENSORS))
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{at / _TENSORS} is no safetensors file, or is damaged: {error}") from error
    wanted: dict[str, tuple[str, bool]] = {}
    for each in found:
        placed = _placed(each, leaves)
        said = _scale_said(config, placed.module)
        if said is not None and not np.isclose(said, each.scale):
            raise ValueError(
                f"{at / _CONFIG} multiplies the adapter of {placed.module!r} by {said:g}, and the model by "
                f"{each.scale:g}: make the model with the alpha of the file, or the file with that of the model"
            )
        for name, of in placed.names.items():
            wanted[f"{_PREFIX}{placed.module}.{name}"] = (of, placed.turned)
    for name, plain in base_names(leaves, found).items():
        if ".modules_to_save." in name and plain is not None:
            wanted[_PREFIX + plain] = (name, False)
    lacking, beyond = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if lacking or beyond:
        parts = [
            *([f"it lacks {listing(lacking)} of the model"] if lacking else []),
            *([f"it has {listing(beyond)}, which the model has not"] if beyond else []),
        ]
        raise ValueError(f"{at / _TENSORS} has the adapters of another model: {'; '.join(parts)}")
    read = {}
    for name, (of, turned) in wanted.items():
        value = tensors[name].T if turned else tensors[name]
        if value.shape != np.shape(leaves[of]):
            raise ValueError(
                f"{name!r} in {at / _TENSORS} has the shape {value.shape}, and {of!r} of the model "
                f"{np.shape(leaves[of])}: the adapters must have the same ranks"
            )
        read[of] = np.ascontiguousarray(value).astype(np.asarray(leaves[of]).dtype)
    return ModelWeights.create(
        *(
            Struct([(name, read.get(str(name), leaf)) for name, leaf in part._items()])
            for part in (like["trainable"], like["non_trainable"])
        )
    )


class _Placed(NamedTuple):
    """An adapter as PEFT has it.

    Attributes:
        module: the path of the module.
        names: from the names of the factors, behind the module's, to those here.
        factors: from the names to the values, as PEFT has them.
        turned: whether these are transposed.
        scale: what the product is multiplied by.
        transposed: whether the base is [in, out].
    """

    module: str
    names: dict[str, str]
    factors: dict[str, Any]
    turned: bool
    scale: float
    transposed: bool


def _placed(adapter: Adapter, leaves: Mapping[str, Any]) -> _Placed:
    base = adapter.base
    path = str(base_names([base], [])[base]).replace("/", ".")
    module, _, last = path.rpartition(".")
    if not module:
        raise ValueError(
            f"the weight {base!r} is in no module, by its name, and adapters of PEFT belong to modules: give the base "
            "names such as 'layer/kernel'"
        )
    first, second = (np.asarray(leaves[name]) for name in (adapter.first, adapter.second))
    if first.ndim != 2 or second.ndim != 2:
        raise ValueError(
            f"the adapter of {base!r} has the factors {list(first.shape)} and {list(second.shape)}, and those of PEFT "
            "are matrices: write the whole model, with hansa.learning.merge_adapters"
        )
    of_embedding = last == "embeddings" or "lora_embedding_" in adapter.first
    a, b = ("lora_embedding_A", "lora_embedding_B") if of_embedding else ("lora_A.weight", "lora_B.weight")
    if last == "weight":  # as PyTorch has it: B A, of [out, in]
        names, turned = {b: adapter.first, a: adapter.second}, False
    else:
        names, turned = {a: adapter.first, b: adapter.second}, True
    values = {name: np.asarray(leaves[of]).T if turned else np.asarray(leaves[of]) for name, of in names.items()}
    return _Placed(module, names, values, turned, adapter.scale, adapter.transposed and not of_embedding)


def _own_config(model: Any) -> dict[str, Any] | None:
    """What a module of PEFT says of its adapter."""
    configs = getattr(model, "peft_config", None) if frontends.is_torch(model) else None
    if not configs:
        return None
    active = next(iter(getattr(model, "active_adapters", configs)), None)
    said = configs[active if active in configs else next(iter(configs))].to_dict()
    return {**{name: _plain(value) for name, value in said.items()}, "inference_mode": True}


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set | frozenset) else getattr(value, "value", value)


def _config(placed: list[_Placed], copies: Mapping[str, str]) -> dict[str, Any]:
    ranks = {each.module: _rank(each) for each in placed}
    alphas = {each.module: each.scale * ranks[each.module] for each in placed}
    rank, alpha = max(ranks.values()), max(alphas.values())
    kept = sorted({re.sub(r"\.[^.]+$", "", name.removeprefix(_PREFIX)) for name in copies.values()})
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "bias": "none",
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(ranks),
        "rank_pattern": {re.escape(module): r for module, r in ranks.items() if r != rank},
        "alpha_pattern": {re.escape(module): a for module, a in alphas.items() if a != alpha},
        "fan_in_fan_out": any(each.transposed for each in placed),
        "modules_to_save": kept or None,
    }


def _rank(placed: _Placed) -> int:
    return next(int(value.shape[0]) for name, value in placed.factors.items() if "_A" in name)


def _scale_said(config: Mapping[str, Any], module: str) -> float | None:
    """What a configuration of PEFT multiplies the adapter of a module by; None if it does not say."""

    def pattern(of: str, otherwise: str) -> Any:
        for key, value in dict(config.get(of) or {}).items():
            if re.match(rf"(.*\.)?({key})$", module):
                return value
        return config.get(otherwise)

    rank, alpha = pattern("rank_pattern", "r"), pattern("alpha_pattern", "lora_alpha")
    if not rank or alpha is None:
        return None
    return float(alpha / np.sqrt(rank) if config.get("use_rslora") else alpha / rank)
