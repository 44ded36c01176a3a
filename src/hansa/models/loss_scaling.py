"""Scaling of the loss for gradients in float16, for any optimizer: what Keras's `LossScaleOptimizer` does."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hansa.models.optimizer import Optimizer
from hansa.types import Struct

INITIAL = 2.0**15
GROWTH_STEPS = 2000
"""Keras's defaults: where the scale starts, and after how many steps it is doubled."""


def scaled(optimizer: Optimizer) -> Optimizer:
    """An optimizer whose gradients are taken of the loss times a scale, so that they are not rounded to zero.

    A step whose gradients are not finite is left out, and the scale is halved; after `GROWTH_STEPS` others in a row it
    is doubled.
    """

    def initial(weights: Any) -> Struct:
        return Struct.of(scale=np.float32(INITIAL), steps=np.int32(0), inner=optimizer.initial(weights))

    def apply(state: Struct, gradients: Any, weights: Any) -> tuple[Struct, Any]:
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradients)]))
        found = optimizer.apply(
            state.inner, jax.tree.map(lambda g: (g / state.scale).astype(g.dtype), gradients), weights
        )
        before = state.inner, weights
        inner, after = jax.tree.map(lambda now, then: jnp.where(finite, now, then), found, before)
        grown = finite & (state.steps == GROWTH_STEPS - 1)
        factor = jnp.where(finite, jnp.where(grown, jnp.float32(2), jnp.float32(1)), jnp.float32(0.5))
        steps = jnp.where(finite & ~grown, state.steps + 1, jnp.zeros_like(state.steps))
        return Struct.of(scale=state.scale * factor, steps=steps, inner=inner), after

    def finish(state: Struct, weights: Any) -> Any:
        assert optimizer.finish is not None
        return optimizer.finish(state.inner, weights)

    return Optimizer(
        initial,
        apply,
        wide=optimizer.wide,
        scale_loss=lambda state, weights, loss: loss * state.scale.astype(loss.dtype),
        finish=None if optimizer.finish is None else finish,
        projects=optimizer.projects,
        name=optimizer.name,
    )
