"""Arithmetic of weights, and of any structs of arrays: what the formulas of algorithms are written with.

These are functions of JAX, to be used in the hooks of `local_training`, in finalizers and in local computations.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hansa.learning.screening import is_float
from hansa.models.weights import ModelWeights
from hansa.types import Struct

__all__ = [
    "add",
    "add_scaled",
    "choose",
    "difference",
    "dot",
    "moved",
    "scale",
    "squared_norm",
    "subtract",
    "zeros_like",
]


def add(a: Any, b: Any) -> Any:
    """a + b, array by array.

    Examples:
        >>> hansa.learning.arithmetic.add(hansa.Struct.of(w=1.0), hansa.Struct.of(w=2.0))
        <w=3.0>
    """
    return jax.tree.map(lambda x, y: x + y, a, b)


def subtract(a: Any, b: Any) -> Any:
    """a - b, array by array.

    Examples:
        >>> hansa.learning.arithmetic.subtract(hansa.Struct.of(w=1.0), hansa.Struct.of(w=2.0))
        <w=-1.0>
    """
    return jax.tree.map(lambda x, y: x - y, a, b)


def scale(factor: Any, a: Any) -> Any:
    """factor a, where the factor is a number.

    Examples:
        >>> hansa.learning.arithmetic.scale(0.5, hansa.Struct.of(w=3.0))
        <w=1.5>
    """
    return jax.tree.map(lambda x: factor * x, a)


def add_scaled(a: Any, factor: Any, b: Any) -> Any:
    """a + factor b, where the factor is a number.

    Examples:
        >>> hansa.learning.arithmetic.add_scaled(hansa.Struct.of(w=1.0), 0.5, hansa.Struct.of(w=4.0))
        <w=3.0>
    """
    return jax.tree.map(lambda x, y: x + factor * y, a, b)


def zeros_like(a: Any) -> Any:
    """Zeros of the shapes and dtypes of a, as NumPy arrays: what many algorithms begin with.

    Examples:
        >>> hansa.learning.arithmetic.zeros_like(hansa.Struct.of(w=np.ones(2, np.float32)))
        <w=[0.0,0.0]>
    """
    return jax.tree.map(lambda x: np.zeros(np.shape(x), x.dtype), a)


def dot(a: Any, b: Any) -> Any:
    """The inner product of all numbers of a and b, a float32 scalar.

    Examples:
        >>> hansa.learning.arithmetic.dot(hansa.Struct.of(w=np.ones(3), b=2.0), hansa.Struct.of(w=np.ones(3), b=4.0))
        Array(11., dtype=float32)
    """
    products = jax.tree.map(lambda x, y: jnp.sum(x * y, dtype=jnp.float32), a, b)
    return sum(jax.tree.leaves(products), jnp.float32(0))


def squared_norm(a: Any) -> Any:
    """The sum of the squares of all numbers of a, a float32 scalar.

    Examples:
        >>> hansa.learning.arithmetic.squared_norm(hansa.Struct.of(w=np.array([3.0, 4.0])))
        Array(25., dtype=float32)
    """
    return dot(a, a)


def choose(condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, a bool scalar, else b.

    Examples:
        >>> hansa.learning.arithmetic.choose(False, hansa.Struct.of(w=1), hansa.Struct.of(w=2))
        <w=2>
    """
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def difference(after: ModelWeights, before: ModelWeights) -> ModelWeights:
    """What training changed: after minus before.

    Weights that are handed on as they are, such as those of frozen layers, and non-trainable ones that are not floats
    are left out, so they are not sent. `moved` takes what is left.

    Args:
        after: the weights after training, as `finish` gets them.
        before: the weights before, such as `at.sent.model`.

    Examples:
        >>> weights = hansa.Struct.of(w=np.float32(1)), hansa.Struct.of(n=np.int32(7))
        >>> before = hansa.learning.ModelWeights.create(*weights)
        >>> after = before._replace(trainable=hansa.Struct.of(w=np.float32(3)))
        >>> hansa.learning.arithmetic.difference(after, before)
        <trainable=<w=2.0>,non_trainable=<>>
    """
    trainable, rest = (
        Struct([(name, leaf - then[part][name]) for name, leaf in now._items() if leaf is not then[part][name]])
        for part, now, then in (
            ("trainable", after.trainable, before),
            ("non_trainable", _floats(after.non_trainable), before),
        )
    )
    return ModelWeights.create(trainable, rest)


def moved(weights: ModelWeights, update: Any, factor: Any = 1) -> ModelWeights:
    """weights + factor update, where the update may be of some of the weights only, such as `difference` gives it.

    The factor is that of the trainable ones; the others' mean change is added as it is.

    Examples:
        >>> shared = hansa.learning.ModelWeights.create(hansa.Struct.of(w=1.0, head=5.0), hansa.Struct())
        >>> hansa.learning.arithmetic.moved(shared, hansa.Struct.of(trainable={"w": 2.0}, non_trainable={}), 0.5)
        <trainable=<w=2.0,head=5.0>,non_trainable=<>>
    """
    trained, rest = (_fields(update[part]) for part in ("trainable", "non_trainable"))
    trainable = [
        (name, leaf + factor * trained[name] if name in trained else leaf) for name, leaf in weights.trainable._items()
    ]
    others = [(name, leaf + rest[name] if name in rest else leaf) for name, leaf in weights.non_trainable._items()]
    return ModelWeights.create(Struct(trainable), Struct(others))


def _floats(weights: Struct) -> Struct:
    return Struct([(name, leaf) for name, leaf in weights._items() if is_float(leaf)])


def _fields(part: Any) -> dict[Any, Any]:
    return dict(part._items()) if isinstance(part, Struct) else dict(part)
