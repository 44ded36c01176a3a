"""The rules of the codecs, by name: each is told by the codec of this name in `hansa.aggregators.codecs`."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from hansa.aggregators import codecs
from hansa.aggregators.codecs.rotations import BLOCK
from hansa.aggregators.compression import Keeps, compressing
from hansa.aggregators.factory import Factory
from hansa.aggregators.sums import Adding


def quantised(
    inner: Factory | None = None, *, bits: int = 8, bucket: int = 512, error_feedback: bool = False, seed: int = 0
) -> Factory:
    """Clients send each number rounded at random to `2**bits` levels (Suresh et al. 2017); see `codecs.quantised`.

    Args:
        inner: as in `compressed`.
        bits: from 1 to 8.
        bucket: how many numbers share a range.
        error_feedback: as in `compressed`.
        seed: as in `compressed`.

    Returns:
        A rule for values of float dtypes, without bias, which needs each client's message.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> rule = hansa.aggregators.quantised(bits=4)
        >>> rule
        quantised(mean(), bits=4, bucket=512)
        >>> aggregation = rule("float32[2]")
        >>> aggregation.next(aggregation.initialize(), [[0.0, 1.5], [1.5, 0.0]], [1.0, 3.0]).result
        Array([1.125, 0.375], dtype=float32)
    """
    return _of(codecs.quantised(bits, bucket=bucket), inner, error_feedback, seed)


def ternary(inner: Factory | None = None, *, bucket: int = 512, error_feedback: bool = False, seed: int = 0) -> Factory:
    """Clients send each number as -s, 0 or s (TernGrad: Wen et al. 2017); see `codecs.ternary`.

    Args:
        inner: as in `compressed`.
        bucket: how many numbers share a scale s.
        error_feedback: as in `compressed`.
        seed: as in `compressed`.

    Returns:
        A rule for values of float dtypes, without bias, which needs each client's message.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> aggregation = hansa.aggregators.ternary()("float32[2]")
        >>> aggregation.next(aggregation.initialize(), [[0.0, 2.0], [-1.0, 1.0]], [1.0, 1.0]).result
        Array([-0.5,  1.5], dtype=float32)
    """
    return _of(codecs.ternary(bucket=bucket), inner, error_feedback, seed)


def drive(inner: Factory | None = None, *, block: int = BLOCK, error_feedback: bool = False, seed: int = 0) -> Factory:
    """Clients send signs of rotated values, one bit for each number (Vargaftik et al. 2021); see `codecs.drive`.

    Args:
        inner: as in `compressed`.
        block: how many numbers are rotated together, a power of two.
        error_feedback: as in `compressed`.
        seed: as in `compressed`.

    Returns:
        A rule for values of float dtypes, nearly without bias, which needs each client's message.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> aggregation = hansa.aggregators.drive()("float32[2]")
        >>> print(aggregation.needs, hansa.aggregators.codecs.drive().num_bytes("float32[159010]"))
        each 20600
    """
    return _of(codecs.drive(block=block), inner, error_feedback, seed)


def eden(
    inner: Factory | None = None, *, bits: int = 2, block: int = BLOCK, error_feedback: bool = False, seed: int = 0
) -> Factory:
    """Clients send a few bits for each number of rotated values (Vargaftik et al. 2022); see `codecs.eden`.

    Args:
        inner: as in `compressed`.
        bits: from 1 to 8.
        block: how many numbers are rotated together, a power of two.
        error_feedback: as in `compressed`.
        seed: as in `compressed`.

    Returns:
        A rule for values of float dtypes, nearly without bias, which needs each client's message.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> hansa.aggregators.eden(bits=3)("float32[100]").needs
        'each'
    """
    return _of(codecs.eden(bits, block=block), inner, error_feedback, seed)


def sign(inner: Factory | None = None, *, majority: bool = False, error_feedback: bool | None = None) -> Factory:
    """Clients send signs, one bit for each number, with their mean size or for a vote; see `codecs.sign`.

    Args:
        inner: as in `compressed`; none with a majority.
        majority: whether the result is 1 where more clients have a positive number than a negative one, -1 where fewer
            have, and 0 where they are equal, and no size is sent (signSGD with majority vote: Bernstein et al. 2018,
            arXiv:1802.04434, Algorithm 1). Clients count the same.
        error_feedback: as in `compressed`; by default without a majority (EF-signSGD: Karimireddy et al. 2019,
            Algorithm 1), and never with one.

    Returns:
        A rule for values of float dtypes, which needs each client's message.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> aggregation = hansa.aggregators.sign(majority=True)("float32[2]")
        >>> values = [[3.0, -1.0], [1.0, -2.0], [-9.0, 5.0]]
        >>> aggregation.next(aggregation.initialize(), values, [1.0, 1.0, 1.0]).result
        Array([ 1., -1.], dtype=float32)
    """
    if not majority:
        return _of(codecs.sign(), inner, error_feedback is not False, 0)
    if inner is not None or error_feedback:
        raise ValueError("sign(majority=True) takes in no other rule, and its clients keep nothing; leave these out")
    return compressing(codecs.sign(scaled=False), _Majority(), "nobody", 0, {"majority": True})


class _Majority(Adding):
    """The sign of the sum."""

    def __init__(self) -> None:
        super().__init__("majority", {}, weighted=False, divisor=1)

    def finished(self, result: Any) -> Any:
        return jnp.sign(result)


def top_k(inner: Factory | None = None, *, share: float = 0.01, error_feedback: bool = True) -> Factory:
    """Clients send their largest numbers and where they are (Aji and Heafield 2017); see `codecs.top_k`.

    Args:
        inner: as in `compressed`.
        share: which part of the numbers is sent.
        error_feedback: as in `compressed`; without it the result has a bias.

    Returns:
        A rule for values of float dtypes, which needs each client's message.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> aggregation = hansa.aggregators.top_k(share=0.25)("float32[4]")
        >>> state, result, _ = aggregation.next(aggregation.initialize(), [[1.0, 3.0, 2.0, 0.0]], [1.0])
        >>> again = aggregation.next(state, [[1.0, 0.0, 2.0, 0.0]], [1.0]).result
        >>> np.asarray(result), np.asarray(again)
        (array([0., 3., 0., 0.], dtype=float32), array([0., 0., 4., 0.], dtype=float32))
    """
    return _of(codecs.top_k(share), inner, error_feedback, 0)


def random_k(
    inner: Factory | None = None, *, share: float = 0.01, error_feedback: bool = False, seed: int = 0
) -> Factory:
    """Clients send a random part of the numbers, the same for all of them in a round; see `codecs.random_k`.

    Args:
        inner: as in `compressed`. It takes vectors of the numbers that are sent.
        share: which part is sent.
        error_feedback: as in `compressed`. Without it numbers are multiplied by n / k, so that there is no bias.
        seed: as in `compressed`.

    Returns:
        A rule for values of float dtypes, which needs what the inner one needs: sums, with a mean.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> aggregation = hansa.aggregators.random_k(share=0.5)("float32[4]")
        >>> result = aggregation.next(aggregation.initialize(), [[1.0, 1.0, 1.0, 1.0]], [1.0]).result
        >>> sorted(result.tolist()), aggregation.needs
        ([0.0, 0.0, 2.0, 2.0], 'sums')
    """
    return _of(codecs.random_k(share, unbiased=not error_feedback), inner, error_feedback, seed)


def sketched(
    inner: Factory | None = None,
    *,
    rows: int = 5,
    columns: int = 1024,
    keep: float | None = None,
    error_feedback: bool | None = None,
    seed: int = 0,
) -> Factory:
    """Clients send count sketches, which are added up; see `codecs.sketched`.

    Args:
        inner: as in `compressed`. It takes sketches.
        rows: how many rows a sketch has.
        columns: how many columns.
        keep: which share of the numbers is decoded, those of the largest estimates.
        error_feedback: whether the server keeps the sketch of what it has not decoded, and adds it in the next round
            (FetchSGD: Rothchild et al. 2020, arXiv:2007.07682, Algorithm 1; momentum is the server's optimizer's). By
            default where there is `keep`.
        seed: what the functions of the sketch are drawn of.

    Returns:
        A rule for values of float dtypes, which needs what the inner one needs: sums, with a mean.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> aggregation = hansa.aggregators.sketched(rows=3, columns=20, keep=0.01)("float32[100]")
        >>> value = np.float32(7 * np.eye(1, 100, 42)[0])
        >>> output = aggregation.next(aggregation.initialize(), [value, value], [1.0, 1.0])
        >>> float(output.result[42]), aggregation.needs, aggregation.state_type.compact()
        (7.0, 'sums', '<error=<sketch=float32[3,20]>>@SERVER')
    """
    keeps: Keeps = "server" if (keep is not None if error_feedback is None else error_feedback) else "nobody"
    if keeps == "server" and keep is None:
        raise ValueError(
            "sketched with error_feedback keeps what it does not decode: give keep, the share that it does"
        )
    return compressing(codecs.sketched(rows, columns, keep=keep, seed=seed), inner, keeps, 0, {})


def _of(codec: codecs.Codec, inner: Factory | None, error_feedback: bool, seed: int) -> Factory:
    return compressing(codec, inner, "clients" if error_feedback else "nobody", seed, {})
