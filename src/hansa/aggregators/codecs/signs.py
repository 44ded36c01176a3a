"""The codec of signs."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from hansa.aggregators.codecs.codec import Codec
from hansa.aggregators.codecs.packing import pack, unpack


def sign(*, scaled: bool = True) -> Codec:
    """One bit for each number, its sign, and the mean of their absolute values (Karimireddy et al. 2019,
    arXiv:1901.09847, section 4.1).

    It is not without bias. The squared error is (1 - |x|_1^2 / (n |x|_2^2)) |x|_2^2 (Lemma 8). Zero has the sign 1.

    Args:
        scaled: whether the signs are multiplied by |x|_1 / n. Else they are sent alone (signSGD: Bernstein et al. 2018,
            arXiv:1802.04434, Algorithm 1).

    Returns:
        A codec, not linear. A message has ceil(n / 8) bytes, and 4 more if it is scaled.

    Examples:
        >>> codec = hansa.aggregators.codecs.sign()
        >>> np.asarray(codec.decode(codec.encode(np.float32([1.0, -2.0, 3.0])), 3)), codec.num_bytes("float32[16]")
        (array([ 2., -2.,  2.], dtype=float32), 6)
    """

    def encode(x: Any, key: Any) -> Any:
        signs = {"signs": pack(x >= 0, 1)}
        return {**signs, "scale": (jnp.abs(x) / x.size).sum()} if scaled else signs

    def decode(message: Any, size: int, key: Any) -> Any:
        signs = unpack(message.signs, 1, size).astype(jnp.float32) * 2 - 1
        return signs * message.scale if scaled else signs

    return Codec("sign", encode, decode, draws="nothing", settings={} if scaled else {"scaled": False})
