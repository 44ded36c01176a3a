"""A copy of a Keras model with other weights: what is handed out, where the model itself is to stay as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from hansa.models.keras import weights as keras_weights
from hansa.models.weights import ModelWeights


def copy_with(model: Any, weights: ModelWeights, build: Callable[[Any], None]) -> Any:
    """A Keras model like another, compiled in the same way, that has these weights.

    Args:
        model: the other one, which stays as it is.
        weights: the weights.
        build: makes the variables of a model.

    Raises:
        TypeError: if Keras cannot make the model again, as it cannot where layers are arguments of its class.
    """
    keras_weights.quiet_tensorflow()
    try:
        copied = _uncompiled(model)
        compiled = getattr(model, "_compile_config", None)
        if compiled is not None:
            copied.compile(**{name: _copy(value) for name, value in compiled.config.items()})
        build(copied)
        _assign(copied, model, weights)
    except Exception as error:
        raise TypeError(
            f"Keras cannot make a copy of the model {model.name!r}: {error}\nMake the model again, and write "
            "state.model.assign_weights_to(keras_model)"
        ) from error
    return copied


def _uncompiled(model: Any) -> Any:
    """A model of the same layers, which is not compiled."""
    # Keras finds the classes of layers within layers by their names.
    with keras.saving.custom_object_scope({type(layer).__name__: type(layer) for layer in model._flatten_layers()}):
        if type(model) is keras.Sequential:
            (given,) = model.inputs
            start = keras.Input(batch_shape=(None, *given.shape[1:]), dtype=given.dtype, name=given.name)
            layers = [type(layer).from_config(layer.get_config()) for layer in model.layers]
            return keras.Sequential([start, *layers], name=model.name, trainable=model.trainable)
        if type(model).__module__.startswith("keras."):
            # Of a compiled one, `clone_model` would make the loss again from its name.
            return keras.models.clone_model(keras.Model(model.input, model.output, name=model.name))
        arguments = getattr(model, "_auto_config", None)
        if arguments is not None and keras.Model.get_config is type(model).get_config:
            return type(model)(**arguments.config)
        return type(model).from_config(model.get_config())


def _assign(copied: Any, model: Any, weights: ModelWeights) -> None:
    """Gives a copy weights that are named as those of the model, whose variables are in the same order."""
    for part, found, known in zip(weights, keras_weights.weights(copied), keras_weights.weights(model), strict=True):
        if [tuple(variable.shape) for variable in found] != [tuple(variable.shape) for variable in known]:
            raise ValueError("what was made has other weights")
        if {id(variable) for variable in found} & {id(variable) for variable in known}:
            raise ValueError("its layers are arguments of its class, so the copy would have the same")
        for name, position in keras_weights.order(model, known):
            found[position].assign(np.asarray(part[name]))


def _copy(value: Any) -> Any:
    """What a model is compiled with, with optimizers and metrics that are its own, as they have variables."""
    if isinstance(value, keras.Optimizer | keras.Metric):
        return type(value).from_config(value.get_config())
    if isinstance(value, dict):
        return {name: _copy(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_copy, value))
    return value
