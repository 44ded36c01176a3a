"""What is given for a batch, a loss, metrics and an optimizer, as types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import keras
    import optax

    from hansa.models.metrics import Metric
    from hansa.models.named_optimizers import OptimizerName

Loss: TypeAlias = "str | keras.losses.Loss | Callable[..., Any] | Mapping[str, Loss] | Sequence[Loss]"
"""A loss by name, object or function; or one for each output."""

Metrics: TypeAlias = "Sequence[KerasMetric | Sequence[KerasMetric]] | Mapping[str, KerasMetric | Sequence[KerasMetric]]"
"""As `compile` takes them, and `Metric`s."""

KerasMetric: TypeAlias = "str | keras.metrics.Metric | Metric | Callable[..., Any]"

AnyOptimizer: TypeAlias = "OptimizerName | optax.GradientTransformation | keras.optimizers.Optimizer"
"""An optimizer by name, of Optax or of Keras."""
