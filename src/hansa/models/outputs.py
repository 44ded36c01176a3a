"""`BatchOutput`: what a model gives for a batch."""

from __future__ import annotations

from typing import Any, NamedTuple


class BatchOutput(NamedTuple):
    """What a forward pass gives.

    Attributes:
        loss: the scalar that training minimises: the mean over the batch's examples.
        predictions: what the model says of each example, or None.
        num_examples: how many examples the batch holds, or None for its leading size.
        features: what a layer before the last makes of each example, `[examples, size]`, or None; for algorithms that
            compare it, such as MOON.
        weight: how much the batch counts in a client's weight with `client_weighting="sample_weight"`, such as the
            number of its tokens; or None for the sum of its sample weights.

    Examples:
        >>> def forward(weights, batch, training, rng):
        ...     predictions = batch.x @ weights["kernel"]
        ...     return hansa.learning.BatchOutput(jnp.mean((predictions - batch.y) ** 2), predictions)
        >>> model = hansa.learning.functional_model(
        ...     {"kernel": np.zeros(3)}, forward, input_spec="<x=float32[?,3],y=float32[?]>"
        ... )
        >>> model.name
        'forward'
    """

    loss: Any
    predictions: Any = None
    num_examples: Any = None
    features: Any = None
    weight: Any = None
