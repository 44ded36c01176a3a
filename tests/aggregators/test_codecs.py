"""Codecs against NumPy in float64, their bytes, and what their papers say of bias and error."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from hansa.aggregators import codecs
from hansa.aggregators.codecs.centroids import normal_centroids
from hansa.aggregators.codecs.packing import pack, pack_trits, unpack, unpack_trits
from tests.aggregators import codec_oracles as oracle

SIZE = 700
FOUR = [-1.5104176, -0.4527800, 0.4527800, 1.5104176]
"""The centroids of two bits that Max 1960 has in table I."""


class Case(NamedTuple):
    """A codec, what is decoded in NumPy, its bytes for so many numbers, and whether its mean is what was encoded."""

    codec: codecs.Codec
    decoded: Callable[[np.ndarray, Any], np.ndarray]
    num_bytes: Callable[[int], int]
    unbiased: bool = True


def blocks(size: int, block: int) -> tuple[int, int]:
    width = oracle.width_of(size, block)
    return -(-size // width), width


CASES = {
    **{
        f"quantised {bits}": Case(
            codecs.quantised(bits, bucket=256),
            oracle.quantised(bits, 256),
            lambda n, bits=bits: math.ceil(n * bits / 8) + 8 * -(-n // min(256, n)),
        )
        for bits in (1, 3, 8)
    },
    "ternary": Case(
        codecs.ternary(bucket=100), oracle.ternary(100), lambda n: math.ceil(n / 5) + 4 * math.ceil(n / min(100, n))
    ),
    "drive": Case(
        codecs.drive(block=256),
        oracle.eden([-math.sqrt(2 / math.pi), math.sqrt(2 / math.pi)], 256),
        lambda n: math.ceil(math.prod(blocks(n, 256)) / 8) + 4 * blocks(n, 256)[0] + 8,
    ),
    "eden": Case(
        codecs.eden(2, block=128),
        oracle.eden(FOUR, 128),
        lambda n: math.ceil(math.prod(blocks(n, 128)) * 2 / 8) + 4 * blocks(n, 128)[0] + 8,
    ),
    "rotated": Case(
        codecs.rotated(codecs.quantised(4, bucket=128), block=128),
        oracle.rotated(oracle.quantised(4, 128), 128),
        lambda n: math.prod(blocks(n, 128)) // 2 + 8 * blocks(n, 128)[0] + 8,
    ),
    "sign": Case(codecs.sign(), oracle.sign, lambda n: math.ceil(n / 8) + 4, False),
    "top_k": Case(
        codecs.top_k(0.05),
        oracle.top_k(0.05),
        lambda n: 4 * max(1, round(0.05 * n)) + math.ceil(max(1, round(0.05 * n)) * max(1, (n - 1).bit_length()) / 8),
        False,
    ),
    "random_k": Case(codecs.random_k(0.05), oracle.random_k(0.05), lambda n: 4 * max(1, round(0.05 * n))),
    "sketched": Case(
        codecs.sketched(5, 60),
        lambda x, key: oracle.estimates(oracle.sketch_of(x, 5, 60), len(x)),
        lambda n: 4 * 5 * 60,
        False,
    ),
}


def decoder(codec: codecs.Codec, size: int) -> Callable[[Any, Any], Any]:
    return jax.jit(lambda x, key: codec.decode(codec.encode(x, key), size, key))


def vector(size: int) -> np.ndarray:
    """Numbers of several sizes, a few of them large."""
    rng = np.random.default_rng(size)
    return (rng.normal(size=size) * rng.choice([0.1, 1, 5], size)).astype("float32")


@pytest.mark.parametrize("name", CASES)
def test_a_codec_is_that_of_numpy_and_a_message_has_its_bytes(name: str) -> None:
    case = CASES[name]
    for size in (1, 6, SIZE):
        assert case.codec.num_bytes(f"float32[{size}]") == case.num_bytes(size)
    decoded = decoder(case.codec, SIZE)
    x = vector(SIZE)
    for seed in range(3):
        key = jax.random.key(seed)
        expected = case.decoded(x.astype(np.float64), key)
        np.testing.assert_allclose(decoded(x, key), expected, atol=1e-6 * np.abs(expected).max())
    assert not np.asarray(decoded(np.zeros(SIZE, np.float32), key)).any()
    assert np.isfinite(np.asarray(decoded(np.float32(1e36) * np.sign(x), key))).all(), "no square is taken of it"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.unbiased])
def test_the_mean_of_messages_is_what_was_encoded_and_the_error_is_within_the_bound(name: str) -> None:
    codec, number = CASES[name].codec, 400
    x = vector(SIZE)
    many = np.asarray(
        jax.jit(jax.vmap(lambda key: codec.decode(codec.encode(x, key), SIZE, key)))(
            jax.random.split(jax.random.key(7), number)
        ),
        np.float64,
    )
    errors = ((many - x) ** 2).sum(1)
    square = (x.astype(np.float64) ** 2).sum()
    # Where there is no bias, the mean of n is away from x by the standard deviation over the root of n.
    spread = many.std(0, ddof=1)
    away = (many.mean(0) - x)[spread > 0] / (spread[spread > 0] / math.sqrt(number))
    # With the Hadamard transform for a uniform rotation, a bias is left to these two, of a thousandth of the error.
    nearly = name in ("drive", "eden")
    assert (away**2).mean() == pytest.approx(1, abs=0.5 if nearly else 0.2) and (spread > 0).mean() > 0.9
    rows = oracle.rows_of(x.astype(np.float64), 256, edge=True)
    ranges = np.repeat(rows.max(1) - rows.min(1), 256)[:SIZE]
    scales = np.repeat(np.abs(oracle.rows_of(x.astype(np.float64), 100)).max(1), 100)[:SIZE]
    bounds = {
        "quantised 1": (ranges**2 / 4).sum(),  # Suresh et al. 2017, theorem 2: at most (D / (k - 1))^2 / 4 each
        "quantised 3": (ranges**2 / 4 / 7**2).sum(),
        "quantised 8": (ranges**2 / 4 / 255**2).sum(),
        "rotated": (2 * math.log(128) + 2) / 15**2 * square,  # theorem 3, of one client
        "drive": 1.05 * (math.pi / 2 - 1) * square,  # Vargaftik et al. 2021, theorem 3, for large blocks
        "eden": 1.05 * (1 / (1 - 0.1175) - 1) * square,  # Vargaftik et al. 2022, theorem 2.3; .1175 of Max 1960
    }
    exact = {
        "ternary": (np.abs(x) * (scales - np.abs(x))).sum(),
        "random_k": (SIZE / 35 - 1) * square,
    }
    assert name not in bounds or errors.mean() <= bounds[name]
    assert name not in exact or errors.mean() == pytest.approx(exact[name], rel=0.1)


@pytest.mark.slow
def test_what_has_a_bias_has_the_error_of_its_paper() -> None:
    x = vector(SIZE)
    square, wide = (x.astype(np.float64) ** 2).sum(), x.astype(np.float64)
    sign, top_k = (np.asarray(decoder(CASES[name].codec, SIZE)(x, jax.random.key(0))) for name in ("sign", "top_k"))
    # Karimireddy et al. 2019, lemma 8; Stich et al. 2018, lemma A.1.
    assert ((sign - wide) ** 2).sum() == pytest.approx(square - np.abs(wide).sum() ** 2 / SIZE, rel=1e-5)
    assert ((top_k - wide) ** 2).sum() <= (1 - 35 / SIZE) * square
    # Charikar et al. 2002: the error of each is at most 3 |x|_2 / sqrt(columns) with high probability.
    sketched = np.asarray(decoder(codecs.sketched(9, 400), SIZE)(x, jax.random.key(0)))
    assert np.abs(sketched - wide).max() <= 3 * math.sqrt(square / 400)


def test_centroids_are_those_of_the_tables() -> None:
    np.testing.assert_allclose(normal_centroids(2), FOUR, atol=1e-7)
    np.testing.assert_allclose(normal_centroids(3)[4:], [0.2451, 0.7560, 1.344, 2.152], atol=5e-4)
    for bits in range(1, 9):
        centroids = normal_centroids(bits)
        assert len(centroids) == 2**bits and (np.diff(centroids) > 0).all()
        np.testing.assert_array_equal(centroids, -centroids[::-1])


@pytest.mark.parametrize("bits", [1, 2, 3, 8, 17])
def test_packed_integers_come_back_and_have_the_order_of_numpy(bits: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 2**bits, 37).astype(np.uint32)
    packed = np.asarray(pack(jax.numpy.asarray(codes), bits))
    digits = (codes[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    np.testing.assert_array_equal(packed, np.packbits(digits.astype(np.uint8)))
    np.testing.assert_array_equal(unpack(jax.numpy.asarray(packed), bits, 37), codes)


def test_five_digits_to_the_base_of_three_are_in_a_byte() -> None:
    codes = np.random.default_rng(0).integers(0, 3, 37)
    packed = pack_trits(jax.numpy.asarray(codes))
    assert packed.shape == (8,) and packed.dtype == np.uint8
    np.testing.assert_array_equal(unpack_trits(packed, 37), codes)


def test_what_fits_nothing_is_refused_where_it_is_made() -> None:
    with pytest.raises(ValueError, match="bits of quantised must be an integer from 1 to 8, found 9"):
        codecs.quantised(9)
    with pytest.raises(ValueError, match="block of drive must be a power of two, found 1000"):
        codecs.drive(block=1000)
    with pytest.raises(ValueError, match="share of top_k must be a number above 0, up to 1, found 2"):
        codecs.top_k(2)
    with pytest.raises(ValueError, match="rotated takes in a codec whose draws are not shared"):
        codecs.rotated(codecs.random_k())
    with pytest.raises(TypeError, match="sign takes tensors of float dtypes, found int32"):
        codecs.sign().message_type("int32[3]")
    with pytest.raises(TypeError, match="sign takes values of known sizes, with at least one number, found float32"):
        codecs.sign().num_bytes("float32[?]")
