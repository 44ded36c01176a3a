"""`Optimizer`: how weights follow gradients, as pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from hansa.models.optimizer_names import with_rate
from hansa.types import Struct


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


def sgd(learning_rate: Any) -> Optimizer:
    """Stochastic gradient descent without momentum; it has no state. The rate is a number, or a scalar of JAX."""
    return Optimizer(
        initial=lambda weights: Struct(),
        apply=lambda state, gradients, weights: (
            state,
            jax.tree.map(lambda w, g: w - learning_rate * g, weights, gradients),
        ),
        name=with_rate("SGD", None if isinstance(learning_rate, jax.core.Tracer) else learning_rate),
    )
