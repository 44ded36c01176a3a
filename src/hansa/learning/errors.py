"""What to say when an algorithm is given something that is no model."""

from __future__ import annotations

from typing import Any


def not_a_model(value: Any, returned: bool = False) -> TypeError:
    """The error for a `model_fn` that is no model and makes none, with what to write instead."""
    what = "model_fn returned" if returned else "model_fn is"
    if hasattr(value, "stateless_call"):
        return TypeError(
            f"{what} the Keras model {value.name!r} itself, which does not say what a batch of its clients looks like; "
            "return hansa.learning.from_compiled_keras_model(keras_model, sample_batch), or pass its result"
        )
    return TypeError(
        f"{what} {value!r}; it must be a function without parameters that returns a model, such as "
        "hansa.learning.from_compiled_keras_model(keras_model, sample_batch) or "
        "hansa.learning.functional_model(weights, forward, sample_batch=…)"
    )
