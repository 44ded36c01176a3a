"""A task's model in Keras, of any version and on any backend."""

from __future__ import annotations

from typing import Any


def build(keras: Any, layers: list[dict[str, Any]], input_shape: tuple[int, ...], input_dtype: str) -> Any:
    """The model, not compiled."""
    made = [keras.layers.InputLayer(input_shape, dtype=input_dtype), *(_layer(keras.layers, **one) for one in layers)]
    return keras.Sequential(made)


def loss(keras: Any) -> Any:
    """The loss of a task, the mean cross-entropy of all labels of a batch."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _layer(layers: Any, kind: str, **sizes: Any) -> Any:
    if kind == "dense":
        return layers.Dense(sizes["units"], activation=sizes["activation"])
    if kind == "conv":
        return layers.Conv2D(sizes["filters"], sizes["size"], padding="same", activation=sizes["activation"])
    if kind == "pool":
        return layers.MaxPooling2D(sizes["size"])
    if kind == "flatten":
        return layers.Flatten()
    if kind == "embedding":
        return layers.Embedding(sizes["entries"], sizes["units"])
    if kind == "lstm":
        return layers.LSTM(sizes["units"], return_sequences=True)
    raise ValueError(f"there is no layer of kind {kind!r}")
