"""`ModelWeights`: the weights of a model as a value, by name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hansa._tracebacks import boundaries
from hansa.types import Struct

if TYPE_CHECKING:
    import keras
    import torch


@boundaries
class ModelWeights(Struct):
    """The weights of a model: two structs of arrays by name, sorted by name.

    `trainable` is what an optimizer changes, `non_trainable` what a forward pass may change (the statistics of a
    BatchNormalization, for instance).

    Examples:
        >>> weights = state.model
        >>> weights.trainable["dense/kernel"].shape, len(weights.non_trainable)
        ((64, 10), 0)
    """

    __slots__ = ()

    @classmethod
    def create(cls, trainable: Struct, non_trainable: Struct) -> ModelWeights:
        """The weights made of these two structs.

        Examples:
            >>> kernel = hansa.Struct([("kernel", np.zeros((64, 10), np.float32))])
            >>> hansa.learning.ModelWeights.create(kernel, hansa.Struct()).trainable.kernel.shape
            (64, 10)
        """
        return cls([("trainable", trainable), ("non_trainable", non_trainable)])

    def assign_weights_to(self, model: keras.Model | torch.nn.Module) -> None:
        """Sets the weights of a Keras model, or of a PyTorch module, to these.

        The model must have the same architecture. A Keras model must be built; where its layers have other automatic
        names (`dense_2` for `dense`), as a second model in one process has, they are matched in the order of their
        numbers. A PyTorch module keeps its device and dtypes.

        Raises:
            TypeError: if it is neither.
            ValueError: if a weight has no counterpart in the model, or another shape. The model is then unchanged.

        Examples:
            >>> state.model.assign_weights_to(network)
            >>> network.predict(x[:2], verbose=0).shape
            (2, 10)
        """
        from hansa.models import frontends

        frontends.assign(self, model)

    def save_keras(self, keras_model: keras.Model, path: str | os.PathLike[str]) -> None:
        """Writes a Keras model with these weights to a `.keras` file, which `keras.models.load_model` reads.

        Args:
            keras_model: as for `assign_weights_to`; it has these weights afterwards.
            path: the file, whose name ends in `.keras`; one that is there is replaced.

        Raises:
            ValueError: if the model is another one, or the file has another ending.
            OSError: if the file cannot be written.

        Examples:
            >>> state.model.save_keras(network, "digits.keras")
            >>> keras.models.load_model("digits.keras").count_params()
            650
        """
        if not os.fspath(path).endswith(".keras"):
            raise ValueError(
                f"a Keras model is written to a file that ends in .keras, found {os.fspath(path)!r}; weights alone are "
                "written with hansa.learning.save_weights"
            )
        from hansa.models.keras.weights import quiet_tensorflow

        quiet_tensorflow()
        self.assign_weights_to(keras_model)
        keras_model.save(path, overwrite=True)

    def to_pytree(self, like: Any, non_trainable: Any = None) -> Any:
        """The weights as the pytree that a model in plain JAX was made of.

        Args:
            like: a pytree like the model's `initial_weights`; only its structure counts.
            non_trainable: one like its `non_trainable`, if it has any; the result is then the pair of both.

        Raises:
            ValueError: if a pytree has other leaves.

        Examples:
            >>> like = {"dense": {"kernel": 0, "bias": 0}}
            >>> state.model.to_pytree(like)["dense"]["kernel"].shape
            (64, 10)
        """
        from hansa.models.jax.pytrees import like_tree

        if non_trainable is None and len(self.non_trainable):
            raise ValueError("the weights have non-trainable ones among them: pass non_trainable, a pytree like theirs")
        trained = like_tree(like, self.trainable, "like")
        if non_trainable is None:
            return trained
        return trained, like_tree(non_trainable, self.non_trainable, "non_trainable")

    def __dir__(self) -> Any:
        return [*super().__dir__(), "assign_weights_to", "save_keras", "to_pytree"]
