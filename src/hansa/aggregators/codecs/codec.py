"""`Codec`: how a vector becomes a message of fewer bytes and back; and the same for values of any float type."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from hansa._tracebacks import boundaries
from hansa.aggregators.checks import check_floats
from hansa.language.computation import Computation
from hansa.language.local import is_wide, tensors, unflatten
from hansa.language.tracing import narrow_computation, wide_computation
from hansa.types import Struct, TensorType, Type, to_type

Draws = Literal["own", "shared", "nothing"]

_KEY = TensorType("uint32", (2,))


@boundaries
class Codec:
    """How a float32 vector becomes a message, arrays by name, and back.

    A client's message says all that is needed to decode it, but for the size of the vector and, where the draws are
    shared, their key.

    Args:
        name: what it is called.
        encode: from a vector, and the key of its random draws, to the message.
        decode: from a message, the size of the vector, and the key of shared draws, to the vector.
        draws: what the key of the draws is: each client's "own"; one "shared" by all, which the decoder has, too;
            or that "nothing" is drawn.
        linear: whether the weighted mean of messages with one key is the message of the mean. Then the server needs
            only sums of messages, and decodes once. The messages must hold floats only.
        settings: what it was made with, by name, for people.

    Raises:
        ValueError: if `draws` is something else.

    Examples:
        Halves: each number as float16.

        >>> halves = hansa.aggregators.codecs.Codec(
        ...     "halves",
        ...     lambda x, key: {"halves": x.astype(jnp.float16)},
        ...     lambda message, size, key: message.halves.astype(jnp.float32),
        ...     draws="nothing",
        ... )
        >>> halves
        halves()
        >>> print(halves.message_type("<kernel=float32[3,2],bias=float32[2]>"), halves.num_bytes("float32[8]"))
        <halves=float16[8]> 16
        >>> message = halves.encode(np.float32([1.0, 1.0001]))
        >>> np.asarray(halves.decode(message, 2))
        array([1., 1.], dtype=float32)
        >>> halves.name, halves.draws, halves.is_linear, halves.settings
        ('halves', 'nothing', False, {})
    """

    def __init__(
        self,
        name: str,
        encode: Callable[[jax.Array, jax.Array], Mapping[str, jax.Array]],
        decode: Callable[[Struct, int, jax.Array], jax.Array],
        *,
        draws: Draws = "own",
        linear: bool = False,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        if draws not in ("own", "shared", "nothing"):
            raise ValueError(f"draws of a Codec must be 'own', 'shared' or 'nothing', found {draws!r}")
        self._name, self._encode, self._decode = name, encode, decode
        self._draws, self._linear, self._settings = draws, linear, dict(settings or {})

    @property
    def name(self) -> str:
        """What it is called."""
        return self._name

    @property
    def draws(self) -> Draws:
        """What the key of the draws is."""
        return self._draws

    @property
    def is_linear(self) -> bool:
        """Whether the mean of messages is the message of the mean."""
        return self._linear

    @property
    def settings(self) -> Mapping[str, object]:
        """What it was made with, by name."""
        return dict(self._settings)

    def encode(self, vector: jax.Array | np.ndarray, key: jax.Array | None = None) -> Struct:
        """The message of a float32 vector; `key` is a JAX random key, where something is drawn."""
        return Struct(self._encode(jnp.asarray(vector, jnp.float32), _given(key)).items())

    def decode(self, message: Struct, size: int, key: jax.Array | None = None) -> jax.Array:
        """The vector of `size` numbers of a message; `key` as in `encode`, where it is shared."""
        return self._decode(message, size, _given(key))

    def message_type(self, value_type: object) -> Type:
        """The type of the message of a value: what is sent."""
        encode = ValueCodec(self, to_type(value_type)).encode
        return encode.type_signature.result

    def num_bytes(self, value_type: object) -> int:
        """How many bytes the message of a value has."""
        return sum(leaf.dtype.itemsize * _elements(leaf) for leaf in tensors(self.message_type(value_type)))

    def __repr__(self) -> str:
        return f"{self._name}({', '.join(f'{name}={value!r}' for name, value in self._settings.items())})"


class ValueCodec:
    """A codec for values of a type, whose numbers it takes as one vector, in single precision.

    Args:
        codec: the codec.
        value: the type, of float tensors.

    Attributes:
        size: how many numbers a value has.
        message: the type of the message.
        encode: `(<value,key> -> message)`.
    """

    def __init__(self, codec: Codec, value: Type) -> None:
        self.codec, self.value = codec, value
        self.size = size_of(codec.name, value)

        @narrow_computation(value, _KEY)
        def encode(value: Any, key: Any) -> Any:
            return codec.encode(flat(value), jax.random.wrap_key_data(key))

        self.encode: Computation = encode
        self.message = encode.type_signature.result

    def vector_of(self, message: Any, key: Any = None) -> Any:
        """The vector of a message; `key` is the data of the shared one."""
        return self.codec.decode(message, self.size, None if key is None else jax.random.wrap_key_data(key))

    def value_of(self, vector: Any) -> Any:
        """The value of a vector."""
        return shaped(self.value, vector)

    @property
    def decode(self) -> Computation:
        """`(<message,key> -> value)`."""

        @in_single(self.value, self.message, _KEY)
        def decode(message: Any, key: Any) -> Any:
            return self.vector_of(message, key)

        return decode


def size_of(what: str, value: Type) -> int:
    """How many numbers values of a type have, which are float tensors of known sizes."""
    check_floats(what, value)
    sizes = [size for leaf in tensors(value) for size in leaf.shape]
    number = 0 if None in sizes else sum(map(_elements, tensors(value)))
    if not number:
        raise TypeError(f"{what} takes values of known sizes, with at least one number, found {value}")
    return number


def _elements(leaf: TensorType) -> int:
    return math.prod(size or 0 for size in leaf.shape)


def flat(value: Any) -> jax.Array:
    """The numbers of a value in one float32 vector."""
    return jnp.concatenate([leaf.astype(jnp.float32).reshape(-1) for leaf in jax.tree.leaves(value)])


def shaped(kind: Type, vector: Any) -> Any:
    """The value of a type whose numbers are those of a vector."""
    leaves, start = [], 0
    for leaf in tensors(kind):
        size = _elements(leaf)
        leaves.append(vector[start : start + size].reshape(leaf.shape).astype(leaf.dtype))
        start += size
    return unflatten(kind, leaves)


def in_single(value: Type, *types: Type) -> Callable[[Callable[..., Any]], Computation]:
    """A computation of a function with 32-bit JAX, which returns a vector, and whose result is that as a value.

    Args:
        value: the type of the value.
        *types: those of the function's parameters, one or two.
    """

    def decorate(function: Callable[..., Any]) -> Computation:
        def shaping(*given: Any) -> Any:
            with jax.enable_x64(False):
                vector = function(*given)
            return shaped(value, vector)

        def of_one(first: Any) -> Any:
            return shaping(first)

        def of_two(first: Any, second: Any) -> Any:
            return shaping(first, second)

        local = wide_computation if is_wide(value) else narrow_computation
        made: Computation = local(*types)(of_one if len(types) == 1 else of_two)
        return made

    return decorate


def _given(key: Any) -> Any:
    return jax.random.key(0) if key is None else key


def blocks(vector: Any, size: int, fill: Literal["zero", "last"] = "zero") -> Any:
    """A vector in rows of a size; the last one is filled up with zeros, or with the last number."""
    more = -vector.size % size
    pad = partial(jnp.pad, mode="edge") if fill == "last" else jnp.pad
    return (pad(vector, (0, more)) if more else vector).reshape(-1, size)
