"""What is given to an algorithm as `model_fn`, as a `FunctionalModel`."""

from __future__ import annotations

from typing import Any

from hansa.models.model import FunctionalModel
from hansa.models.tensorflow_models import Model, from_variables


def model_of(model_fn: Any) -> FunctionalModel:
    """The model that `model_fn` makes, or is.

    Raises:
        TypeError: if it is no model and makes none; the message says what to write instead.
    """
    if isinstance(model_fn, FunctionalModel):
        return model_fn
    if isinstance(model_fn, Model) or not callable(model_fn) or hasattr(model_fn, "stateless_call"):
        raise _not_a_model(model_fn)
    from hansa.models.keras_weights import fresh_names

    with fresh_names():
        model = model_fn()
    if isinstance(model, Model):
        return from_variables(model)
    if not isinstance(model, FunctionalModel):
        raise _not_a_model(model, returned=True)
    return model


def _not_a_model(value: Any, returned: bool = False) -> TypeError:
    what = "model_fn returned" if returned else "model_fn is"
    if isinstance(value, Model):
        name = type(value).__name__
        return TypeError(
            f"{what} an instance of {name}, whose variables would be shared by all processes that are built of it; "
            f"pass the class, {name}, or a function that makes a new instance, lambda: {name}(…)"
        )
    if hasattr(value, "stateless_call"):
        return TypeError(
            f"{what} the Keras model {value.name!r} itself, which does not say what a batch of its clients looks like; "
            "return hansa.learning.from_compiled_keras_model(keras_model, sample_batch), or pass its result"
        )
    return TypeError(
        f"{what} {value!r}; it must be a function without parameters that returns a model, such as "
        "hansa.learning.from_compiled_keras_model(keras_model, sample_batch) or "
        "hansa.learning.functional_model(weights, forward, sample_batch=…), or a class derived from "
        "hansa.learning.Model"
    )
