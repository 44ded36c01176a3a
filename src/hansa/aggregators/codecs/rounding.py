"""Codecs that round each number at random to one of a few, so that the mean of what is decoded is what was encoded."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hansa.aggregators.checks import check_whole
from hansa.aggregators.codecs.codec import Codec, blocks
from hansa.aggregators.codecs.packing import pack, pack_trits, unpack, unpack_trits


def quantised(bits: int = 8, *, bucket: int = 512) -> Codec:
    """Each number as one of `2**bits` levels at equal distances (Suresh et al. 2017, arXiv:1611.00429, section 2.2).

    Of each bucket of consecutive numbers (Alistarh et al. 2017, arXiv:1610.02132, section 4) the least and the greatest
    are sent. Between these lie k = 2**bits levels, at distances D = (greatest - least) / (k - 1). A number becomes the
    level above or below it, with probabilities such that its expectation is the number. The expected squared error is
    at most D^2 / 4 for each number.

    Args:
        bits: from 1 to 8.
        bucket: how many numbers share a range.

    Returns:
        A codec, not linear. For n numbers in b buckets a message has ceil(n bits / 8) + 8 b bytes.

    Raises:
        ValueError: if an argument is not what is said above.

    Examples:
        >>> import jax
        >>> codec = hansa.aggregators.codecs.quantised(bits=2)
        >>> message = codec.encode(np.float32([0.0, 1.0, 2.0, 3.0]), jax.random.key(0))
        >>> np.asarray(codec.decode(message, 4)), codec.num_bytes("float32[4]")
        (array([0., 1., 2., 3.], dtype=float32), 9)
    """
    check_whole("bits of quantised", bits, 1, 8)
    check_whole("bucket of quantised", bucket, 1)
    levels = 2**bits - 1
    shares = (np.arange(levels + 1) / levels).astype(np.float32)

    def encode(x: Any, key: Any) -> Any:
        rows = blocks(x, min(bucket, x.size), "last")
        low, high = rows.min(1), rows.max(1)
        # Of halves, as the difference of two large numbers may be beyond float32.
        width = 0.5 * high - 0.5 * low
        place = (0.5 * rows - 0.5 * low[:, None]) * (levels / jnp.where(width > 0, width, 1))[:, None]
        floor = jnp.minimum(jnp.floor(place), levels)
        above = jax.random.uniform(key, rows.shape, jnp.float32) < place - floor
        codes = jnp.minimum(floor + above, levels).astype(jnp.uint8)
        return {"codes": pack(codes.reshape(-1)[: x.size], bits), "low": low, "high": high}

    def decode(message: Any, size: int, key: Any) -> Any:
        part = jnp.asarray(shares)[unpack(message.codes, bits, size)]
        rows = blocks(part, min(bucket, size))
        return (message.low[:, None] * (1 - rows) + message.high[:, None] * rows).reshape(-1)[:size]

    return Codec("quantised", encode, decode, settings={"bits": bits, "bucket": bucket})


def ternary(*, bucket: int = 512) -> Codec:
    """Each number as -s, 0 or s (TernGrad: Wen et al. 2017, arXiv:1705.07878, equations 1 to 3).

    Of each bucket of consecutive numbers the largest, signs apart, is s; the paper has one for each layer. A number x
    becomes s sign(x) with the probability |x| / s, and else 0, so its expectation is x. The expected squared error is
    |x| (s - |x|).

    Args:
        bucket: how many numbers share a scale.

    Returns:
        A codec, not linear. Five numbers are in one byte: for n numbers in b buckets a message has
        ceil(n / 5) + 4 b bytes.

    Raises:
        ValueError: if an argument is not what is said above.

    Examples:
        >>> import jax
        >>> codec = hansa.aggregators.codecs.ternary()
        >>> message = codec.encode(np.float32([0.0, -2.0, 2.0]), jax.random.key(0))
        >>> np.asarray(codec.decode(message, 3)), codec.num_bytes("float32[10]")
        (array([ 0., -2.,  2.], dtype=float32), 6)
    """
    check_whole("bucket of ternary", bucket, 1)

    def encode(x: Any, key: Any) -> Any:
        rows = blocks(x, min(bucket, x.size))
        scale = jnp.abs(rows).max(1)
        share = jnp.abs(rows) / jnp.where(scale > 0, scale, 1)[:, None]
        there = jax.random.uniform(key, rows.shape, jnp.float32) < share
        codes = jnp.where(there, jnp.sign(rows), 0).astype(jnp.int32) + 1
        return {"codes": pack_trits(codes.reshape(-1)[: x.size]), "scale": scale}

    def decode(message: Any, size: int, key: Any) -> Any:
        signs = unpack_trits(message.codes, size).astype(jnp.float32) - 1
        return (blocks(signs, min(bucket, size)) * message.scale[:, None]).reshape(-1)[:size]

    return Codec("ternary", encode, decode, settings={"bucket": bucket})
