"""What algorithms of adapters share: which adapters a model trains."""

from __future__ import annotations

from hansa.models.adapters import Adapter, Adapters, adapters_of, trained_adapters
from hansa.models.model import FunctionalModel


def trained(model: FunctionalModel, given: Adapters | None, scale: float | None = None) -> list[Adapter]:
    """The adapters of a model that trains them, and not their base.

    Raises:
        TypeError, ValueError: if there are none, or one is otherwise.
    """
    weights = model.initial_weights
    found = adapters_of(weights, given, model.name, known=model.adapters, scale=scale)
    return trained_adapters(weights, found, model.name)
