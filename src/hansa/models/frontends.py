"""Models as the libraries know them that they are written in: their weights are read from them, and written back.

The frontend that a model belongs to does it, whichever it is; what it has for that is two functions, `assign` and
`read`.
"""

from __future__ import annotations

from typing import Any

from hansa.types.mismatch import describe


def assign(weights: Any, model: Any) -> None:
    """Sets the weights of a model; see `ModelWeights.assign_weights_to`."""
    values = weights["trainable"], weights["non_trainable"]
    if is_keras(model):
        from hansa.models.keras import weights as of_keras

        of_keras.assign(values, model)
    elif is_torch(model):
        from hansa.models.torch import weights as of_torch

        of_torch.assign(values, model)
    else:
        raise TypeError(
            f"weights are assigned to a Keras model or a PyTorch module, found {describe(model)}; for a model in plain "
            "JAX, state.model.to_pytree(like) gives a new pytree of them"
        )


def read(model: Any, like: Any) -> Any:
    """The weights of a model, the trainable ones and the others, by the names of others; None if it is no model.

    Raises:
        TypeError, ValueError: if it is another model.
    """
    if is_keras(model):
        from hansa.models.keras import weights as of_keras

        return of_keras.read(model, like)
    if is_torch(model):
        from hansa.models.torch import weights as of_torch

        return of_torch.read(model, like)
    if isinstance(model, dict | list | tuple):
        from hansa.models.jax import pytrees

        return pytrees.read(model, like)
    return None


def adapters_in(model: Any) -> tuple[Any, ...]:
    """The low-rank adapters that the layers of a model have; none of what is no model."""
    if is_keras(model):
        from hansa.models.keras import adapters as of_keras

        return of_keras.adapters_in(model)
    if is_torch(model):
        from hansa.models.torch import adapters as of_torch

        return of_torch.adapters_in(model)
    return tuple(getattr(model, "adapters", ()))


def is_keras(model: Any) -> bool:
    """Whether it is a Keras model; Keras is not imported for it."""
    return hasattr(model, "stateless_call")


def is_torch(model: Any) -> bool:
    """Whether it is a PyTorch module; PyTorch is not imported for it."""
    return hasattr(model, "load_state_dict") and hasattr(model, "named_parameters")
