"""From what a user has to an `Optimizer`: a name, an Optax transformation, a Keras optimizer, a function."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import jax

from hansa.models.learning_rates import check_keras, check_optax
from hansa.models.named_optimizers import LearningRate, named_optimizer, rate_of
from hansa.models.optimizer import Optimizer, TrainedVariables
from hansa.models.optimizer_names import optax_name
from hansa.types import Struct
from hansa.types.mismatch import describe

if TYPE_CHECKING:
    import optax


def to_optimizer(
    value: Any, what: str, trained: TrainedVariables | None = None, learning_rate: LearningRate | None = None
) -> Optimizer:
    """An `Optimizer` from what a user has: a name, one of ours, an Optax transformation, a Keras optimizer, or a
    function that returns one of these.

    Args:
        value: what the user has.
        what: how messages call it: the name of the argument, such as `client_optimizer`.
        trained: the Keras variables that the weights stand for, if there are any.
        learning_rate: that of an optimizer by name.

    Raises:
        TypeError: if it is none of them, or has a learning rate of its own and is given another.
        ValueError: if its learning rate is negative, as far as that can be read off; or there is none of this name.
    """
    if isinstance(value, str):
        value = named_optimizer(value, learning_rate, what)
    elif learning_rate is not None:
        raise TypeError(
            f"{rate_of(what)} is the rate of an optimizer by name, such as {what}='sgd'; {describe(value)} has a rate "
            "of its own: leave out one of the two"
        )
    if isinstance(value, Optimizer):
        return value
    if isinstance(value, type):
        raise TypeError(f"{what} is the class {value.__name__}; make one, such as {value.__name__}(0.1)")
    if hasattr(value, "init") and hasattr(value, "update"):
        check_optax(value, what)
        return from_optax(value)
    if hasattr(value, "stateless_apply"):
        from hansa.models.keras.optimizers import from_keras

        check_keras(value, what)
        return from_keras(value, trained)
    if callable(value):
        return to_optimizer(value(), what, trained)
    raise TypeError(
        f"{what} must be the name of an optimizer such as 'sgd', an Optax optimizer such as optax.sgd(0.1), a Keras "
        f"optimizer such as keras.optimizers.SGD(0.1), or a function that returns one; found {value!r}"
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

    return Optimizer(initial, apply, name=optax_name(transformation))


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
