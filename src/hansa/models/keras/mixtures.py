"""TensorFlow's functions in a Keras model that runs on JAX: refused in a sentence that says what to write."""

from __future__ import annotations

import contextlib
import linecache
import re
import types
from collections.abc import Iterator
from typing import Any

import jax
import keras

_NAMED = re.compile(r"\b(?:tf|tensorflow|np|numpy)\.(?:\w+\.)*(\w+)")


def refuse_tensorflow(model: Any) -> None:
    """Refuses functions of TensorFlow that a model's layers, its loss or its metrics are given, where it runs on JAX.

    Raises:
        TypeError: there is one; the message says where, and what to write.
    """
    if keras.backend.backend() != "jax":
        return
    for layer in model._flatten_layers():
        for name, value in vars(layer).items():
            if isinstance(value, types.FunctionType) and _of_tensorflow(value):
                raise TypeError(f"the layer {layer.name!r} has {name}={_told(value.__name__, str(name))}")
    config = getattr(model, "_compile_config", None)
    given = {} if config is None else config.config
    for name in ("loss", "metrics"):
        for value in jax.tree.leaves(given.get(name), is_leaf=callable):
            if isinstance(value, types.FunctionType) and _of_tensorflow(value):
                raise TypeError(f"the Keras model {model.name!r} has {name}={_told(value.__name__, name)}")


def refuse_kept(model: Any) -> None:
    """Refuses layers and metrics that keep what they compute of a batch in attributes, once they have seen one.

    Raises:
        TypeError: one does; the message says which, and where it belongs.
    """
    metrics = [each for metric in model.metrics for each in (metric, *(getattr(metric, "metrics", None) or ()))]
    for part in [*model._flatten_layers(), *metrics]:
        for name, value in vars(part).items():
            kept = list(value) if isinstance(value, list | tuple) else [value]
            if any(isinstance(each, jax.core.Tracer) for each in kept):
                raise TypeError(
                    f"{type(part).__name__} {part.name!r} keeps what it computes of a batch in its attribute {name!r}, "
                    "where a compiled program has no place for it; keep it in a variable: self.total = "
                    "self.add_weight(…), and self.total.assign_add(…)"
                )


@contextlib.contextmanager
def explaining(what: str) -> Iterator[None]:
    """Says of an error that TensorFlow or NumPy has raised for JAX's arrays what to write instead.

    Raises:
        TypeError: in place of such an error.
    """
    try:
        yield
    except Exception as error:
        if keras.backend.backend() != "jax" or not any(map(_of_arrays, _chain(error))):
            raise
        found = next((line for each in _chain(error) if (line := _line(each))), None)
        if found is None:
            place, name = "something in it hands an array of JAX to TensorFlow or NumPy", None
        else:
            place, name = found
        raise TypeError(f"{what}: {place}; {_told(name, '')}") from error


def _told(name: str | None, role: str) -> str:
    """What to say of a function of TensorFlow's, whose name is known perhaps."""
    plain = None if name is None else name.removesuffix("_v2").removeprefix("reduce_")
    words = [] if plain is None or not hasattr(keras.ops, plain) else [f"keras.ops.{plain}"]
    if role == "activation" and plain is not None and hasattr(keras.activations, plain):
        words.append(f"activation={plain!r}")
    write = " or ".join(words) or "functions of keras.ops"
    whose = "" if name is None or not role else f"{plain}, which is TensorFlow's, and "
    return (
        f"{whose}this Keras runs on JAX: write {write}, or set the environment variable KERAS_BACKEND=tensorflow "
        "before Python starts"
    )


def _of_tensorflow(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).partition(".")[0] == "tensorflow"


def _of_arrays(error: BaseException) -> bool:
    """Whether a library was given an array of JAX whose values are not known. Keras cannot make such errors anew."""
    return isinstance(error, jax.errors.TracerArrayConversionError) or "_error_repr" in str(error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _line(error: BaseException) -> tuple[str, str | None] | None:
    """The line that names a function of TensorFlow's or NumPy's, the last one in an error's traceback."""
    found = None
    trace = error.__traceback__
    while trace is not None:
        file, code = trace.tb_frame.f_code.co_filename, trace.tb_frame.f_code
        text = linecache.getline(file, trace.tb_lineno).strip()
        if "site-packages" not in file and (named := _NAMED.search(text)):
            found = f"{file}, line {trace.tb_lineno}, in {code.co_name}, has {named[0]}", named[1]
        trace = trace.tb_next
    return found
