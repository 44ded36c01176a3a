"""Random rotations by the Hadamard transform, and codecs of what is rotated: DRIVE and EDEN."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hansa.aggregators.checks import check_whole
from hansa.aggregators.codecs.centroids import normal_centroids
from hansa.aggregators.codecs.codec import Codec, blocks
from hansa.aggregators.codecs.packing import pack, unpack

BLOCK = 1024
"""How many numbers are rotated together, by default."""


def check_block(what: str, block: int) -> None:
    """Checks that it is a power of two, of at least two."""
    check_whole(what, block, 2)
    if block & (block - 1):
        raise ValueError(f"{what} must be a power of two, found {block}")


def block_of(size: int, block: int) -> int:
    """How many numbers of so many are rotated together: no more than the next power of two."""
    return min(block, 1 << max(1, (size - 1).bit_length()))


def hadamard(rows: Any) -> Any:
    """The orthonormal Walsh-Hadamard transform of each row of `2**k` numbers, which is its own inverse."""
    number, width = rows.shape
    rows = lax.optimization_barrier(rows * np.float32(1 / math.sqrt(width)))  # First, so that large sums are held.
    half = 1
    while half < width:
        pairs = rows.reshape(number, width // (2 * half), 2, half)
        both = jnp.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], 2)
        rows = lax.optimization_barrier(both.reshape(number, width))  # Else XLA computes the first sums many times.
        half *= 2
    return rows


def random_signs(key: Any, shape: tuple[int, int]) -> Any:
    """Numbers of 1 and -1, each as likely, of one random bit each."""
    size = shape[0] * shape[1]
    words = jax.random.bits(key, (-(-size // 32),), jnp.uint32)
    bits = (words[:, None] >> jnp.arange(32, dtype=jnp.uint32)) & 1
    return (1 - 2 * bits.reshape(-1)[:size].astype(jnp.float32)).reshape(shape)


def rotate(vector: Any, key: Any, block: int) -> Any:
    """A vector in blocks, each rotated at random: signs are changed, and a Hadamard transform follows."""
    rows = blocks(vector, block_of(vector.size, block))
    return hadamard(rows * random_signs(key, rows.shape))


def rotate_back(rows: Any, key: Any, size: int) -> Any:
    """The vector of `rotate`."""
    return (hadamard(rows) * random_signs(key, rows.shape)).reshape(-1)[:size]


def rotated(codec: Codec, *, block: int = BLOCK) -> Codec:
    """A codec of what is rotated at random first (Suresh et al. 2017, arXiv:1611.00429, section 3).

    In blocks of 2**k numbers the vector is multiplied by random signs and by the Hadamard matrix, so that large numbers
    are spread over the block. The key of each client's signs is a part of its message.

    Args:
        codec: what encodes the rotated vector.
        block: how many numbers are rotated together, a power of two. The paper rotates the whole vector at once; of
            blocks the last one only is filled up.

    Returns:
        A codec, not linear. A message has 8 bytes more than that of a vector of `block ceil(n / block)` numbers.

    Raises:
        ValueError: if an argument is not what is said above, or the codec's draws are shared.

    Examples:
        >>> import jax
        >>> codecs = hansa.aggregators.codecs
        >>> codec = codecs.rotated(codecs.quantised(bits=4))
        >>> codec
        rotated(quantised(bits=4, bucket=512), block=1024)
        >>> x = np.float32(np.eye(1, 1000)[0])
        >>> back = codec.decode(codec.encode(x, jax.random.key(0)), 1000)
        >>> bool(np.linalg.norm(back - x) < 0.2), codec.num_bytes("float32[1000]")
        (True, 536)
    """
    check_block("block of rotated", block)
    if not isinstance(codec, Codec) or codec.draws == "shared":
        raise ValueError(f"rotated takes in a codec whose draws are not shared, such as quantised(), found {codec!r}")

    def encode(x: Any, key: Any) -> Any:
        turning, inner = jax.random.split(key)
        rows = rotate(x, turning, block)
        message = codec.encode(rows.reshape(-1), inner)
        return {**message._asdict(), "rotation": jax.random.key_data(turning)}

    def decode(message: Any, size: int, key: Any) -> Any:
        width = block_of(size, block)
        rows = codec.decode(message, width * -(-size // width)).reshape(-1, width)
        return rotate_back(rows, jax.random.wrap_key_data(message.rotation), size)

    class Rotated(Codec):
        def __repr__(self) -> str:
            return f"rotated({codec!r}, block={block})"

    return Rotated("rotated", encode, decode, settings={"codec": codec, "block": block})


def drive(*, block: int = BLOCK) -> Codec:
    """One bit for each number: its sign after a random rotation (DRIVE: Vargaftik et al. 2021, arXiv:2105.08339).

    Of each rotated block R(x) the signs are sent, and the scale |x|^2 / |R(x)|_1, by which they are multiplied before
    they are rotated back (Algorithm 1, and section 4.2 for the scale, with the Hadamard transform of section 6). With
    this scale the mean over messages goes to x; the squared error is about (pi / 2 - 1) |x|^2.

    Args:
        block: how many numbers are rotated together and share a scale, a power of two.

    Returns:
        A codec, not linear. For b blocks of B numbers a message has b B / 8 + 4 b + 8 bytes.

    Raises:
        ValueError: if an argument is not what is said above.

    Examples:
        >>> import jax
        >>> codec = hansa.aggregators.codecs.drive()
        >>> x = np.random.default_rng(0).normal(size=2048).astype("float32")
        >>> back = codec.decode(codec.encode(x, jax.random.key(1)), 2048)
        >>> bool(0.5 < ((back - x) ** 2).sum() / (x**2).sum() < 0.6), codec.num_bytes("float32[2048]")
        (True, 272)
    """
    check_block("block of drive", block)
    return _of_centroids("drive", 1, block, {"block": block})


def eden(bits: int = 2, *, block: int = BLOCK) -> Codec:
    """A few bits for each number after a random rotation (EDEN: Vargaftik et al. 2022, arXiv:2108.08842, Algorithm 1).

    The numbers of a rotated block are nearly normal. Each is rounded to the nearest of the 2**bits centroids that have
    the least squared error for the normal distribution (Lloyd and Max). With Q for what they are rounded to, the scale
    is |x|^2 / <R(x), Q>, so that the mean over messages goes to x. One bit is `drive`.

    Args:
        bits: from 1 to 8.
        block: how many numbers are rotated together and share a scale, a power of two.

    Returns:
        A codec, not linear. For b blocks of B numbers a message has ceil(b B bits / 8) + 4 b + 8 bytes.

    Raises:
        ValueError: if an argument is not what is said above.

    Examples:
        >>> import jax
        >>> codec = hansa.aggregators.codecs.eden(bits=2)
        >>> x = np.random.default_rng(0).normal(size=2048).astype("float32")
        >>> back = codec.decode(codec.encode(x, jax.random.key(1)), 2048)
        >>> f"{((back - x) ** 2).sum() / (x**2).sum():.2f}", codec.num_bytes("float32[2048]")
        ('0.13', 528)
    """
    check_whole("bits of eden", bits, 1, 8)
    check_block("block of eden", block)
    return _of_centroids("eden", bits, block, {"bits": bits, "block": block})


def _of_centroids(name: str, bits: int, block: int, settings: dict[str, object]) -> Codec:
    centroids = normal_centroids(bits)
    between = ((centroids[1:] + centroids[:-1]) / 2).astype(np.float32)
    near = centroids.astype(np.float32)

    def encode(x: Any, key: Any) -> Any:
        largest = jnp.abs(x).max()
        unit = jnp.where(largest > 0, largest, 1)  # No square of x / unit is beyond float32.
        rows = rotate(x / unit, key, block)
        square = jnp.square(rows).sum(1)
        each = jnp.sqrt(square / rows.shape[1])
        codes = jnp.searchsorted(between, rows / jnp.where(each > 0, each, 1)[:, None], side="right")
        product = (rows * jnp.asarray(near)[codes]).sum(1)
        scale = unit * (square / jnp.where(product > 0, product, 1))
        return {"codes": pack(codes.reshape(-1), bits), "scale": scale, "rotation": jax.random.key_data(key)}

    def decode(message: Any, size: int, key: Any) -> Any:
        width = block_of(size, block)
        count = width * -(-size // width)
        rows = jnp.asarray(near)[unpack(message.codes, bits, count)].reshape(-1, width)
        return rotate_back(rows * message.scale[:, None], jax.random.wrap_key_data(message.rotation), size)

    return Codec(name, encode, decode, settings=settings)
