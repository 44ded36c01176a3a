"""`ModelWeights`: the weights of a model as a value, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hansa.types import Struct

if TYPE_CHECKING:
    import keras


class ModelWeights(Struct):
    """The weights of a model: two structs of arrays by name, sorted by name.

    `trainable` is what an optimizer changes, `non_trainable` what a forward pass may change (the statistics of a
    BatchNormalization, for instance).
    """

    __slots__ = ()

    @classmethod
    def create(cls, trainable: Struct, non_trainable: Struct) -> ModelWeights:
        """The weights made of these two structs."""
        return cls([("trainable", trainable), ("non_trainable", non_trainable)])

    def assign_weights_to(self, keras_model: keras.Model) -> None:
        """Sets the weights of a Keras model to these.

        The model must be built and have the same architecture; where its layers have other automatic names
        (`dense_2` for `dense`), as a second model in one process has, they are matched in the order of their numbers.

        Raises:
            ValueError: if a weight has no counterpart in the model, or another shape. The model is then unchanged.
        """
        from hansa.models.keras_weights import assign

        assign(self, keras_model)

    def __dir__(self) -> Any:
        return [*super().__dir__(), "assign_weights_to"]
