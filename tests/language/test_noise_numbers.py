"""Numbers of noise: those of the cipher's stream by Box and Muller's method, with the same bits however computed."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from hansa.language import box_muller
from hansa.language.encoding import rounded_gaussian
from hansa.language.mechanism import STEPS

KEYS = np.random.default_rng(5).integers(0, 2**32, (3, 8), np.uint32)
PART = 2048  # blocks of a stream that are drawn at once
WEIGHTS = (1.5, -0.25, -0.125)


def draw(keys, number, weights=WEIGHTS):
    with jax.enable_x64(True):
        return np.asarray(jax.jit(lambda keys: rounded_gaussian(keys, weights, number))(keys))


def test_logarithms_and_sines_are_those_of_numpy():
    rng = np.random.default_rng(0)
    uniform = np.concatenate(
        [(rng.integers(0, 2**64, 5000, np.uint64) + 0.5) * 2.0**-64, [2.0**-65, 0.5, 1 - 2.0**-53]]
    )
    angles = (rng.random(5000) - 0.5) * np.pi / 2
    with jax.enable_x64(True):
        guard = box_muller.guard_of(jax.numpy.uint32(KEYS[0, 0]))
        logarithms = np.asarray(box_muller._logarithm(uniform, guard))
        sines = np.asarray(box_muller._sine(angles, guard))
    np.testing.assert_allclose(logarithms, np.log(uniform.astype(np.longdouble)), rtol=4e-16)
    np.testing.assert_allclose(sines, np.sin(angles.astype(np.longdouble)), rtol=3e-16)


def test_noise_is_made_of_the_stream_as_is_said():
    algorithms = pytest.importorskip("cryptography.hazmat.primitives.ciphers.algorithms")
    ciphers = pytest.importorskip("cryptography.hazmat.primitives.ciphers")
    number = 5 * 8 * PART - 3  # more than are drawn at once
    total = np.zeros(number)
    for key, weight in zip(KEYS, WEIGHTS, strict=True):
        cipher = ciphers.Cipher(algorithms.ChaCha20(key.astype("<u4").tobytes(), bytes(16)), None)
        words = np.frombuffer(cipher.encryptor().update(bytes(5 * 64 * PART)), "<u4").astype(np.uint64).reshape(-1, 4)
        radius, turn = (words[:, i] << np.uint64(32) | words[:, i + 1] for i in (0, 2))
        length = np.sqrt(-2 * np.log((radius.astype(np.float64) + 0.5) * 2.0**-64))
        quarter = (turn & np.uint64(3)).astype(np.float64)
        angle = np.pi / 2 * (quarter + ((turn >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52 - 0.5)
        both = np.stack([length * np.cos(angle), length * np.sin(angle)])  # [2, pairs]
        of_parts = both.reshape(2, -1, PART, 4).transpose(1, 0, 3, 2)  # four pairs of a block
        total += weight * STEPS * of_parts.reshape(-1)[:number]
    found = draw(KEYS, number)
    assert np.abs(found - total).max() <= 0.5 + 1e-6
    assert (found == np.rint(total)).mean() > 0.9999
    assert not draw(np.zeros_like(KEYS), 100).any()


def test_compiled_vectorised_and_one_by_one_the_bits_are_the_same():
    expected = draw(KEYS, 3000)
    with jax.enable_x64(True):
        eager = np.asarray(rounded_gaussian(KEYS, WEIGHTS, 3000))
        several = jax.jit(jax.vmap(lambda keys: rounded_gaussian(keys, WEIGHTS, 3000)))
        stacked = np.asarray(several(np.stack([KEYS[::-1], KEYS])))
        words = [jax.numpy.asarray(np.random.default_rng(i).integers(0, 2**32, 20_000, np.uint32)) for i in range(4)]

        def pairs(*words):
            return box_muller.pairs(words, box_muller.guard_of(words[0][0]))

        for one, other in zip(pairs(*words), jax.jit(pairs)(*words), strict=True):
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    np.testing.assert_array_equal(eager, expected)
    np.testing.assert_array_equal(stacked[1], expected)
