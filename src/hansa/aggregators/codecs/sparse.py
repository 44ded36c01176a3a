"""Codecs that send some of the numbers: the largest, or a random part."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hansa.aggregators.checks import check_share
from hansa.aggregators.codecs.codec import Codec
from hansa.aggregators.codecs.packing import pack, unpack


def number_of(share: float, size: int) -> int:
    """How many of so many numbers a share is, at least one."""
    return max(1, round(share * size))


def top_k(share: float = 0.01) -> Codec:
    """The numbers that are largest, signs apart, and where they are (Aji and Heafield 2017, arXiv:1704.05021).

    The others are zero, so it is not without bias. The squared error is at most (1 - k / n) |x|^2 (Stich et al. 2018,
    arXiv:1809.07599, Lemma A.1). Used with error feedback, what was left out is added to a client's next value.

    Args:
        share: which part of the numbers is sent: of n numbers k = round(share n), at least one.

    Returns:
        A codec, not linear. A place takes w = ceil(log2 n) bits: a message has 4 k + ceil(k w / 8) bytes.

    Raises:
        ValueError: if `share` is not above 0, up to 1.

    Examples:
        >>> import jax
        >>> codec = hansa.aggregators.codecs.top_k(0.5)
        >>> np.asarray(codec.decode(codec.encode(np.float32([1.0, -4.0, 2.0, -3.0])), 4))
        array([ 0., -4.,  0., -3.], dtype=float32)
        >>> codec.num_bytes("float32[4]")
        9
    """
    check_share("share of top_k", share)

    def encode(x: Any, key: Any) -> Any:
        _, places = lax.top_k(jnp.abs(x), number_of(share, x.size))
        return {"values": x[places], "places": pack(places, _bits(x.size))}

    def decode(message: Any, size: int, key: Any) -> Any:
        places = unpack(message.places, _bits(size), message.values.size)
        return jnp.zeros(size, jnp.float32).at[places].set(message.values)

    return Codec("top_k", encode, decode, draws="nothing", settings={"share": share})


def random_k(share: float = 0.01, *, unbiased: bool = True) -> Codec:
    """A random part of the numbers, the same one for all clients of a round (Konecny et al. 2016, arXiv:1610.05492,
    section 2.2; Wangni et al. 2018, arXiv:1710.09854).

    Which they are is drawn of a key that all share, so their places are not sent, and the server needs sums only. Each
    number is sent with the probability k / n. Multiplied by n / k their expectation is x, with a squared error of
    (n / k - 1) |x|^2.

    Args:
        share: which part is sent: of n numbers k = round(share n), at least one.
        unbiased: whether they are multiplied by n / k. With error feedback they are not (Stich et al. 2018,
            arXiv:1809.07599, Definition 2.1).

    Returns:
        A linear codec. A message has 4 k bytes.

    Raises:
        ValueError: if `share` is not above 0, up to 1.

    Examples:
        >>> import jax
        >>> codec, key = hansa.aggregators.codecs.random_k(0.5), jax.random.key(0)
        >>> message = codec.encode(np.ones(4, np.float32), key)
        >>> sorted(codec.decode(message, 4, key).tolist()), codec.num_bytes("float32[4]")
        ([0.0, 0.0, 2.0, 2.0], 8)
    """
    check_share("share of random_k", share)

    def places_of(key: Any, size: int) -> Any:
        return lax.top_k(jax.random.bits(key, (size,), jnp.uint32), number_of(share, size))[1]

    def encode(x: Any, key: Any) -> Any:
        factor = x.size / number_of(share, x.size) if unbiased else 1
        return {"values": x[places_of(key, x.size)] * jnp.float32(factor)}

    def decode(message: Any, size: int, key: Any) -> Any:
        return jnp.zeros(size, jnp.float32).at[places_of(key, size)].set(message.values)

    settings = {"share": share} if unbiased else {"share": share, "unbiased": False}
    return Codec("random_k", encode, decode, draws="shared", linear=True, settings=settings)


def _bits(size: int) -> int:
    """How many bits a place among so many needs."""
    return max(1, (size - 1).bit_length())
