"""PyTorch modules as `FunctionalModel`s: exported once, and evaluated and differentiated by JAX.

No PyTorch runs in a round, and nothing of the user's Python. Weights have the names of the module's `state_dict`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import torch
from torch import nn

from hansa.models._typing import AnyOptimizer
from hansa.models.jax.models import functional_model
from hansa.models.metrics import MetricSums
from hansa.models.model import FunctionalModel
from hansa.models.named_optimizers import LearningRate
from hansa.models.outputs import BatchOutput
from hansa.models.torch.adapters import adapters_in
from hansa.models.torch.modules import Call, ModuleFunction
from hansa.models.torch.optimizers import from_torch_optimizer, is_torch_optimizer
from hansa.models.torch.weights import assign, first_names, initial_weights
from hansa.models.weights import ModelWeights
from hansa.types import StructType, Type
from hansa.types._typing import Arrays
from hansa.types.mismatch import describe
from hansa.types.samples import of_any_size, sample_type


def model_of_module(
    module: nn.Module,
    sample_batch: Arrays,
    *,
    loss: Callable[..., Any] | None = None,
    metrics: Mapping[str, Any] | MetricSums | None = None,
    optimizer: torch.optim.Optimizer | AnyOptimizer | None = None,
    learning_rate: LearningRate | None = None,
    forward: Callable[[nn.Module, Any], Any] | None = None,
    name: str | None = None,
) -> FunctionalModel:
    """See `hansa.learning.from_torch`."""
    _check(module)
    name = str(name or type(module).__name__)
    kind = of_any_size(sample_type(sample_batch), f"the model {name!r}")
    call = _call_of(forward, loss, kind, name)
    function = ModuleFunction(module, call, kind, name)
    for training in (True, False):
        function.for_every_size(training)
    trained, rest = initial_weights(module)
    first = first_names(module)

    def run(weights: Any, batch: Any, training: bool, key: Any) -> Any:
        trainable, others = weights
        by_name = {**trainable, **others}
        known = {own: by_name[of] for own, of in first.items() if of in by_name}
        value, predictions, assigned = function(known, jax.tree.leaves(batch), training, key)
        # In evaluation a module leaves its buffers as they are, whatever it assigns.
        after = {own: assigned.get(own, old) for own, old in others.items()} if training else others
        return BatchOutput(value, predictions, jax.tree.leaves(batch)[0].shape[0]), after

    if is_torch_optimizer(optimizer):
        names = {id(parameter): own for own, parameter in module.named_parameters()}
        used = {first[own] for own in function.used()}
        optimizer = from_torch_optimizer(optimizer, names, {own for own in trained if own not in used})
    model = functional_model(
        trained,
        run,
        input_spec=kind,
        metrics=metrics,
        optimizer=optimizer,
        learning_rate=learning_rate,
        non_trainable=rest,
        name=name,
    )

    def with_weights(weights: ModelWeights) -> nn.Module:
        copied = copy.deepcopy(module)
        assign((weights["trainable"], weights["non_trainable"]), copied)
        return copied

    return replace(model, with_weights=with_weights, adapters=adapters_in(module))


def _check(module: Any) -> None:
    if isinstance(module, type) and issubclass(module, nn.Module):
        raise TypeError(f"from_torch takes a module, found the class {module.__name__}; make one, {module.__name__}(…)")
    if not isinstance(module, nn.Module):
        raise TypeError(f"from_torch takes a PyTorch module, found {describe(module)}")
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError("from_torch takes a module before torch.jit.script or torch.jit.trace makes another of it")
    for own, part in module.named_modules():
        if part._backward_hooks or getattr(part, "_backward_pre_hooks", None):
            raise TypeError(
                f"the submodule {own or type(part).__name__!r} has backward hooks, which are no part of a graph: "
                "remove them, and write what they do to gradients in forward"
            )
    lazy = [own for own, p in module.named_parameters() if isinstance(p, nn.parameter.UninitializedParameter)]
    if lazy:
        raise ValueError(
            f"the weight {lazy[0]!r} of {type(module).__name__} has no shape yet: call the module on a batch first"
        )


def _call_of(forward: Any, loss: Any, kind: Type, name: str) -> Call:
    """What gives the loss and the predictions."""
    if (forward is None) == (loss is None):
        raise TypeError(
            "from_torch needs one of loss, such as loss=torch.nn.CrossEntropyLoss(), and forward, a function "
            "(module, batch) -> (loss, predictions)"
        )
    given = forward if loss is None else loss
    if isinstance(given, type) or not callable(given):
        shown = f"the class {given.__name__}; make one, {given.__name__}()" if isinstance(given, type) else repr(given)
        raise TypeError(f"{'forward' if loss is None else 'loss'} is a function of tensors, found {shown}")
    if forward is not None:
        chosen: Call = forward
        return chosen
    if isinstance(loss, nn.Module) and any(p.requires_grad for p in loss.parameters()):
        raise TypeError(
            f"the loss {type(loss).__name__} has parameters of its own, which would not be trained: make it a "
            "submodule of the module, and give forward=, a function (module, batch) -> (loss, predictions)"
        )
    if not isinstance(kind, StructType) or not (kind.names == (None, None) or set(kind.names) == {"x", "y"}):
        raise TypeError(
            f"with loss=, a batch for {name!r} is a mapping with the keys x and y, or a pair (x, y); found the type "
            f"{kind}. For other batches give forward=, a function (module, batch) -> (loss, predictions)"
        )

    def call(module: nn.Module, batch: Any) -> Any:
        x, y = (batch["x"], batch["y"]) if isinstance(batch, dict) else batch
        predictions = module(**x) if isinstance(x, dict) else module(*x) if isinstance(x, tuple) else module(x)
        return loss(predictions, y), predictions

    return call
