"""Optimizers as two pure functions, made of an Optax transformation or of a Keras optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax

from hansa.models.learning_rates import check_keras, check_optax
from hansa.models.named_optimizers import LearningRate, named_optimizer, rate_of
from hansa.models.optimizer_names import optax_name, with_rate
from hansa.types import Struct
from hansa.types.mismatch import describe

if TYPE_CHECKING:
    import optax


@dataclass(frozen=True)
class Optimizer:
    """How weights follow gradients.

    Attributes:
        initial: weights (a pytree of arrays) -> the optimizer's state before the first step, a `Struct`.
        apply: (state, gradients, weights) -> (state, weights) after a step.
        wide: its state may have 64-bit dtypes, which it is to be given as they are.
        scale_loss: (state, weights, loss) -> the loss by which gradients are taken for `apply`; None for the loss.
        finish: (state, weights) -> weights after the last step; None for the weights.
        projects: whether `apply` puts weights back to where the model allows them.
        only_for_clients: why it is no optimizer for a server, and what to give instead; None where it is one.
        name: what it is called, with its learning rate, for people.
    """

    initial: Callable[[Any], Struct]
    apply: Callable[[Struct, Any, Any], tuple[Struct, Any]]
    wide: bool = False
    scale_loss: Callable[[Struct, Any, Any], Any] | None = None
    finish: Callable[[Struct, Any], Any] | None = None
    projects: bool = False
    only_for_clients: str | None = None
    name: str = "an optimizer of its own"


@dataclass(frozen=True)
class TrainedVariables:
    """The Keras variables that weights are the values of.

    Attributes:
        variables: the variables.
        positions: which of the weights' leaves each of them stands for.
    """

    variables: tuple[Any, ...]
    positions: tuple[int, ...]

    @staticmethod
    def in_order(variables: Iterable[Any]) -> TrainedVariables:
        """Variables in the order of the weights' leaves."""
        found = tuple(variables)
        return TrainedVariables(found, tuple(range(len(found))))

    def as_weights(self) -> TrainedVariables:
        """The same in the order of the weights' leaves."""
        return TrainedVariables.in_order(self.weights(self.variables, self.variables))

    def values(self, weights: Any) -> list[Any]:
        """From a pytree of leaves by weight, to those by variable."""
        leaves = jax.tree.leaves(weights)
        return [leaves[position] for position in self.positions]

    def weights(self, values: Sequence[Any], like: Any) -> Any:
        """From values by variable, to a pytree like another."""
        by_position = dict(zip(self.positions, values, strict=True))
        return jax.tree.unflatten(jax.tree.structure(like), [by_position[i] for i in range(len(by_position))])


def sgd(learning_rate: float) -> Optimizer:
    """Stochastic gradient descent without momentum; it has no state."""
    return Optimizer(
        initial=lambda weights: Struct(),
        apply=lambda state, gradients, weights: (
            state,
            jax.tree.map(lambda w, g: w - learning_rate * g, weights, gradients),
        ),
        name=with_rate("SGD", learning_rate),
    )


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
        from hansa.models.keras_optimizers import from_keras

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
