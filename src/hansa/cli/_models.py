"""The models of a run: one that a function of the user's returns, or a small one by name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hansa.cli import _user_code
from hansa.cli._errors import Misuse
from hansa.cli.config.schema import ModelTable
from hansa.types import StructType, TensorType, Type


class ModelError(Misuse):
    """The model does not go with the data."""


@dataclass(frozen=True)
class ModelSource:
    """Makes the model of a run, the same one each time.

    Attributes:
        table: what the configuration says.
        seed: of its first weights.
        example_type: the type of a batch of its clients.
        classes: how many labels there are, if that is known.
    """

    table: ModelTable
    seed: int
    example_type: Type
    classes: int | None

    def make(self) -> Any:
        """The model: Keras's, or one of `hansa.learning`."""
        function = self._function  # whose imports draw numbers, too
        return _user_code.seeded(lambda: _user_code.call(function, self.table.options, "model.options"), self.seed)

    @cached_property
    def _function(self) -> Callable[..., Any]:
        return self._named() if self.table.function is None else _user_code.load(self.table.function)

    def model_fn(self) -> Any:
        """The model, as `hansa.learning` takes it."""
        made = self.make()
        if not hasattr(made, "stateless_call"):
            return made
        from hansa import learning

        return learning.from_compiled_keras_model(made, _sample(self.example_type))

    def _named(self) -> Callable[..., Any]:
        kind = self.example_type
        fields = dict(kind.fields) if isinstance(kind, StructType) else {}
        image = fields.get("x")
        if not isinstance(image, TensorType) or "y" not in fields or self.classes is None:
            raise ModelError(
                f'model.name = "{self.table.name}" learns the labels y of arrays x, but a batch has the type {kind}; '
                "write a model of your own, and name it by model.function"
            )
        import keras  # noqa: F401 (before the seed is set)

        shape = tuple(size or 1 for size in image.shape[1:])
        return NAMED[str(self.table.name)](shape, self.classes)


def _sample(kind: Type) -> Any:
    """A batch of one example."""
    assert isinstance(kind, StructType)
    zeros: OrderedDict[Any, Any] = OrderedDict()
    for name, member in kind.fields:
        assert isinstance(member, TensorType)
        zeros[name] = np.zeros(tuple(size or 1 for size in member.shape), member.dtype)
    return zeros


def _linear(shape: tuple[int, ...], classes: int) -> Callable[..., Any]:
    def linear() -> Any:
        return _compiled(shape, _flat(shape), classes)

    return linear


def _mlp(shape: tuple[int, ...], classes: int) -> Callable[..., Any]:
    def mlp(hidden: int = 128) -> Any:
        import keras

        return _compiled(shape, [*_flat(shape), keras.layers.Dense(hidden, "relu")], classes)

    return mlp


def _cnn(shape: tuple[int, ...], classes: int) -> Callable[..., Any]:
    sides = _image(shape)

    def cnn(hidden: int = 128) -> Any:
        import keras

        layers: list[Any] = [] if sides == shape else [keras.layers.Reshape(sides)]
        for filters in (16, 32):
            layers += [keras.layers.Conv2D(filters, 3, padding="same", activation="relu"), keras.layers.MaxPooling2D()]
        return _compiled(shape, [*layers, keras.layers.Flatten(), keras.layers.Dense(hidden, "relu")], classes)

    return cnn


NAMED: dict[str, Callable[[tuple[int, ...], int], Callable[..., Any]]] = {"linear": _linear, "mlp": _mlp, "cnn": _cnn}
"""The models by name: from the shape of an example and the number of labels to a function of the options."""


def _flat(shape: tuple[int, ...]) -> list[Any]:
    import keras

    return [] if len(shape) == 1 else [keras.layers.Flatten()]


def _image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of an image, which may come as a vector of the pixels of a square."""
    if len(shape) == 3:
        return (shape[0], shape[1], shape[2])
    if len(shape) == 2:
        return (*shape, 1)
    side = round(shape[0] ** 0.5) if len(shape) == 1 else 0
    if side * side != (shape or (1,))[0]:
        raise ModelError(f"the model cnn takes images, and x has the shape {list(shape)}; choose mlp")
    return (side, side, 1)


def _compiled(shape: tuple[int, ...], layers: list[Any], classes: int) -> Any:
    import keras

    model = keras.Sequential([keras.Input(shape), *layers, keras.layers.Dense(classes)])
    model.compile(
        optimizer=keras.optimizers.SGD(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    return model
