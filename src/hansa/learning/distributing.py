"""How what the server sends comes to the clients: as it is, or in messages of a codec, which the clients decode."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import jax
import jax.numpy as jnp

from hansa.aggregators.codecs import Codec
from hansa.aggregators.codecs.codec import ValueCodec, in_single
from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.computations import LocalComputation
from hansa.language.local import tensors, unflatten
from hansa.language.tracing import jax_computation
from hansa.language.values import Value
from hansa.learning.fixed import Names
from hansa.learning.keys import KEY
from hansa.learning.screening import struct_of
from hansa.learning.states import selected
from hansa.types import Struct, StructType, TensorType, Type
from hansa.types.mismatch import describe


def checked_codec(given: object) -> Codec | None:
    """The argument `distributor`.

    Raises:
        TypeError: if it is no codec.
    """
    if given is None or isinstance(given, Codec):
        return given
    raise TypeError(
        "distributor must be a codec, such as hansa.aggregators.codecs.quantised(bits=8), or None to send numbers as "
        f"they are; found {describe(given)}"
    )


class Distributing:
    """The way down of what a function of the server's state gives.

    Each field of it that holds floats is one vector, and one message. What is no float, and weights that no round
    changes, go as they are.

    Args:
        codec: the codec, or None to send all as it is.
        send: from the state to what is sent.
        state: the type of the state.
        changing: the names of the weights that rounds change.

    Raises:
        TypeError: if there is nothing to encode.
    """

    def __init__(self, codec: Codec | None, send: LocalComputation, state: StructType, changing: Names) -> None:
        self._send, self._fields = send, list[_Field]()
        if codec is None:
            return
        numbers = unflatten(state, list(range(len(tensors(state)))))
        fixed = {
            number
            for part, names in changing.items()
            for name, number in numbers.model[part]._items()
            if name not in names
        }
        sources = send.function.passed_on()
        for name, kind in struct_of(send.type_signature.result).fields:
            encoded = [
                number not in fixed and leaf.dtype.kind == "f"
                for leaf, number in zip(tensors(kind), jax.tree.leaves(sources[str(name)]), strict=True)
            ]
            self._fields.append(_Field(codec, str(name), kind, encoded))
        if not any(field.codec for field in self._fields):
            sent = send.type_signature.result.compact()
            raise TypeError(f"the distributor {codec!r} has no floats to encode: clients are sent {sent}")

    def sent(self, server: Value, key: Value, place: Callable[[Value], Value]) -> Struct:
        """What clients have of it.

        Args:
            server: the state.
            key: the key of the round, at the server.
            place: brings a value from the server to where it is used.
        """
        found = selected(self._send, server)
        if not self._fields:
            return cast(Struct, _placed(found, place))
        return Struct([(field.name, field.sent(found[field.name], key, place)) for field in self._fields])


class _Field:
    """One field of what is sent; `codec` is None if nothing of it is encoded."""

    def __init__(self, codec: Codec, name: str, kind: Type, encoded: list[bool]) -> None:
        self.name, self._kind, self._encoded = name, kind, encoded
        self.codec: ValueCodec | None = None
        if not any(encoded):
            return
        leaves = [leaf for leaf, there in zip(tensors(kind), encoded, strict=True) if there]
        self.codec = ValueCodec(codec, StructType([(str(number), leaf) for number, leaf in enumerate(leaves)]))
        self._shares_key = codec.draws == "shared"
        self._key_of = _key_of(name)
        whole = in_single(self.codec.value, self.codec.message)
        self._decode = self.codec.decode if self._shares_key else whole(self.codec.vector_of)

    def sent(self, value: Any, key: Value, place: Callable[[Value], Value]) -> Any:
        if self.codec is None:
            return _placed(value, place)
        leaves = list(_leaves(value))
        numbers = [leaf for leaf, there in zip(leaves, self._encoded, strict=True) if there]
        named = on.federated_zip(Struct((str(number), leaf) for number, leaf in enumerate(numbers)))
        own = on.federated_map(self._key_of, key)
        message = place(on.federated_map(self.codec.encode, [named, own]))
        there = on.federated_map(self._decode, [message, place(own)] if self._shares_key else message)
        decoded = iter([there[str(number)] for number in range(len(numbers))])
        parts = [next(decoded) if coded else place(leaf) for leaf, coded in zip(leaves, self._encoded, strict=True)]
        return unflatten(self._kind, parts)


def _placed(value: Any, place: Callable[[Value], Value]) -> Any:
    """Each part by itself, so that one that never changes is sent once."""
    return jax.tree.map(place, value, is_leaf=lambda part: isinstance(part, Value))


def _leaves(value: Any) -> Iterator[Value]:
    """The tensors of placed values in structs, in order."""
    if isinstance(value, Struct):
        parts = list(value)
    else:
        member = value.type_signature.member
        if isinstance(member, TensorType):
            yield value
            return
        parts = [value[number] for number in range(len(member))]
    for part in parts:
        yield from _leaves(part)


def _key_of(name: str) -> Computation:
    """From the key of a round to that of a field: the same in each phase of the round."""
    number = zlib.crc32(f"distributor/{name}".encode())

    @jax_computation(KEY)
    def key_of_field(key: Any) -> Any:
        return jax.random.key_data(jax.random.fold_in(jax.random.wrap_key_data(key), jnp.uint32(number)))

    return key_of_field
