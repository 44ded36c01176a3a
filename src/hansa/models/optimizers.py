"""Optimizers as two pure functions, made of an Optax transformation or of a Keras optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from hansa.models.learning_rates import check_keras, check_optax
from hansa.types import Struct

if TYPE_CHECKING:
    import optax


@dataclass(frozen=True)
class Optimizer:
    """How weights follow gradients.

    Attributes:
        initial: weights (a pytree of arrays) -> the optimizer's state before the first step, a `Struct`.
        apply: (state, gradients, weights) -> (state, weights) after a step.
        wide: its state may have 64-bit dtypes, which it is to be given as they are.
    """

    initial: Callable[[Any], Struct]
    apply: Callable[[Struct, Any, Any], tuple[Struct, Any]]
    wide: bool = False


def sgd(learning_rate: float) -> Optimizer:
    """Stochastic gradient descent without momentum; it has no state."""
    return Optimizer(
        initial=lambda weights: Struct(),
        apply=lambda state, gradients, weights: (
            state,
            jax.tree.map(lambda w, g: w - learning_rate * g, weights, gradients),
        ),
    )


def to_optimizer(value: Any, what: str) -> Optimizer:
    """An `Optimizer` from what a user has: one of ours, an Optax transformation, a Keras optimizer, or a function that
    returns one of these.

    Raises:
        TypeError: if it is none of them.
        ValueError: if its learning rate is negative, as far as that can be read off.
    """
    if isinstance(value, Optimizer):
        return value
    if isinstance(value, type):
        raise TypeError(f"{what} is the class {value.__name__}; make one, such as {value.__name__}(0.1)")
    if hasattr(value, "init") and hasattr(value, "update"):
        check_optax(value, what)
        return from_optax(value)
    if hasattr(value, "stateless_apply"):
        check_keras(value, what)
        return from_keras(value)
    if callable(value):
        return to_optimizer(value(), what)
    raise TypeError(
        f"{what} must be an Optax optimizer such as optax.sgd(0.1), a Keras optimizer such as "
        "keras.optimizers.SGD(0.1), or a function "
        f"that returns one; found {value!r}"
    )


def from_optax(transformation: optax.GradientTransformation) -> Optimizer:
    """An Optax transformation; its state is kept as a struct of its non-empty parts."""

    def initial(weights: Any) -> Struct:
        return _to_struct(transformation.init(weights))

    def apply(state: Struct, gradients: Any, weights: Any) -> tuple[Struct, Any]:
        tree = jax.tree.structure(jax.eval_shape(transformation.init, weights))
        before = jax.tree.unflatten(tree, jax.tree.leaves(state))
        updates, after = transformation.update(gradients, before, weights)
        return _to_struct(after), jax.tree.map(lambda w, u: (w + u).astype(w.dtype), weights, updates)

    return Optimizer(initial, apply)


def from_keras(optimizer: Any, trained: list[Any] | None = None) -> Optimizer:
    """A Keras optimizer; its state is the list of its variables, in their order, without what it was trained with.

    The optimizer itself is not changed: what is run is a copy, made from its configuration. Scaling of the loss is left
    out, as gradients are those of the loss itself.

    Args:
        optimizer: the optimizer.
        trained: the Keras variables that the weights stand for, in the same order, for constraints and for rules that
            go by a variable's name; by default new ones, which have none.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    from keras import Variable, backend

    on_jax = backend.backend() == "jax"
    copies: dict[Any, Any] = {}

    def built(weights: Any) -> Any:
        leaves = jax.tree.leaves(weights)
        key = tuple((leaf.shape, np.dtype(leaf.dtype).name) for leaf in leaves)
        if key not in copies:
            with jax.ensure_compile_time_eval():
                copy = type(optimizer).from_config(optimizer.get_config())
                copy.loss_scale_factor = None
                for name, value in vars(optimizer).items():
                    if name.startswith("_exclude_from_weight_decay"):  # which its configuration does not hold
                        setattr(copy, name, value)
                zeros = (np.zeros(leaf.shape, leaf.dtype) for leaf in leaves)
                variables = trained or [Variable(zero, dtype=zero.dtype.name) for zero in zeros]
                copy.build(variables)
                copies[key] = copy, copy.stateless_apply if on_jax else _lowered(copy, variables)
        return copies[key]

    def initial(weights: Any) -> Struct:
        return Struct((None, np.asarray(variable.value)) for variable in built(weights)[0].variables)

    def apply(state: Struct, gradients: Any, weights: Any) -> tuple[Struct, Any]:
        leaves, tree = jax.tree.flatten(weights)
        after, variables = built(weights)[1](list(state), jax.tree.leaves(gradients), leaves)
        return Struct((None, variable) for variable in variables), jax.tree.unflatten(tree, after)

    return Optimizer(initial, apply, wide=not on_jax)


def _lowered(optimizer: Any, variables: list[Any]) -> Any:
    from hansa.models.keras_tensorflow import optimizer_step

    return optimizer_step(optimizer, variables)


def _to_struct(state: Any) -> Struct:
    """A pytree as a struct of its non-empty parts, by name where it has names."""
    found = _part(state)
    return found if isinstance(found, Struct) else Struct([(None, found)])


def _part(value: Any) -> Any:
    pairs: Iterable[tuple[str | None, Any]]
    if isinstance(value, Struct):
        pairs = value._items()
    elif isinstance(value, dict):
        pairs = sorted(value.items())  # the order of JAX's leaves
    elif isinstance(value, tuple | list):
        pairs = zip(getattr(value, "_fields", (None,) * len(value)), value, strict=True)
    else:
        return value
    parts = [(name, _part(part)) for name, part in pairs if jax.tree.leaves(part)]
    if len(parts) == 1 and isinstance(parts[0][1], Struct) and parts[0][0] is None:
        return parts[0][1]
    return Struct(parts)
