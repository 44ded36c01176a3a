"""What is given to an algorithm as `model_fn`, as a `FunctionalModel`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

from hansa.models.frontends import is_keras, is_torch
from hansa.models.model import FunctionalModel
from hansa.models.tensorflow.models import Model, from_variables

AnyModel: TypeAlias = Callable[[], FunctionalModel | Model] | FunctionalModel
"""What makes a model, or is one."""


def model_of(model_fn: Any) -> FunctionalModel:
    """The model that `model_fn` makes, or is.

    Raises:
        TypeError: if it is no model and makes none; the message says what to write instead.
    """
    if isinstance(model_fn, FunctionalModel):
        return model_fn
    if isinstance(model_fn, Model) or not callable(model_fn) or is_keras(model_fn) or is_torch(model_fn):
        raise _not_a_model(model_fn)
    if _needs_arguments(model_fn):
        name = getattr(model_fn, "__name__", "model_fn")
        given = f"lambda: {name}(…) with them" if name.isidentifier() else "a function that needs none"
        raise TypeError(
            f"model_fn is called without arguments, and {name}{inspect.signature(model_fn)} needs some; pass {given}"
        )
    model = _made(model_fn)
    if isinstance(model, Model):
        return from_variables(model)
    if not isinstance(model, FunctionalModel):
        raise _not_a_model(model, returned=True)
    return model


def _made(model_fn: Any) -> Any:
    """What a function returns, in which Keras numbers automatic names from the start."""
    if "keras" not in sys.modules:  # nor has it named anything
        return model_fn()
    from hansa.models.keras.weights import fresh_names

    with fresh_names():
        return model_fn()


def _needs_arguments(function: Any) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of what is not written in Python
        return False
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return any(each.default is inspect.Parameter.empty and each.kind not in kinds for each in parameters)


def _not_a_model(value: Any, returned: bool = False) -> TypeError:
    what = "model_fn returned" if returned else "model_fn is"
    if isinstance(value, Model):
        name = type(value).__name__
        return TypeError(
            f"{what} an instance of {name}, whose variables would be shared by all processes that are built of it; "
            f"pass the class, {name}, or a function that makes a new instance, lambda: {name}(…)"
        )
    if isinstance(value, type) and hasattr(value, "stateless_call"):
        return TypeError(
            f"{what} the class {value.__name__}; make a model of it, compile that, and return "
            f"hansa.learning.from_compiled_keras_model(keras_model, sample_batch)"
        )
    if hasattr(value, "stateless_call"):
        compiled = "" if getattr(value, "compiled", False) else "compile it, and "
        return TypeError(
            f"{what} the Keras model {value.name!r} itself, which does not say what a batch of its clients looks like; "
            f"{compiled}return hansa.learning.from_compiled_keras_model(keras_model, sample_batch), or pass its "
            "result; a sample_batch is data.client(client_id), for one"
        )
    if is_torch(value):
        return TypeError(
            f"{what} the PyTorch module {type(value).__name__} itself, which does not say what a batch of its clients "
            "looks like, nor its loss; return hansa.learning.from_torch(module, sample_batch, loss=…, optimizer=…)"
        )
    return TypeError(
        f"{what} {value!r}; it must be a function without parameters that returns a model, such as "
        "hansa.learning.from_compiled_keras_model(keras_model, sample_batch) or "
        "hansa.learning.functional_model(weights, forward, sample_batch=…), or a class derived from "
        "hansa.learning.Model"
    )
