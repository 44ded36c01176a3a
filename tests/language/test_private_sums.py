"""Private sums: exact sensitivity, noise of the size that is said, and the same bits wherever they are computed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import hansa
from hansa.language import cipher_stream, encoding
from hansa.language.mechanism import STEPS
from hansa.privacy import Gaussian, Local

SECRET = bytes(range(32))


@hansa.federated_computation("{<a=float32[300],b=float32>}@CLIENTS")
def noised(values):
    return hansa.federated_private_sum(values, 2.0, Gaussian(1.5))


@hansa.federated_computation("float32@SERVER", "{<a=float32[300],b=float32>}@CLIENTS")
def without_noise(bound, values):
    return hansa.federated_private_sum(values, bound, None)


def clients(number, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return [
        {"a": (scale * rng.standard_normal(300)).astype(np.float32), "b": np.float32(scale * rng.standard_normal())}
        for _ in range(number)
    ]


def flat(value):
    return np.concatenate([np.asarray(value["a"], np.float64), [float(value["b"])]])


@pytest.mark.parametrize("bound", [0.5, 100.0])
def test_the_sum_is_that_of_vectors_clipped_together_in_units_of_the_bound(bound):
    given = clients(20, scale=0.1)
    expected = sum(flat(value) * min(1, bound / np.linalg.norm(flat(value))) for value in given) / bound
    found = without_noise(bound, given)
    np.testing.assert_allclose(flat(found), expected, atol=20 * 2 / STEPS)


@pytest.mark.slow
def test_runtimes_orders_devices_chunks_and_files_have_the_same_bits(tmp_path):
    given, results = clients(9), []
    hansa.save(noised, tmp_path / "noised.hansa")
    loaded = hansa.load(tmp_path / "noised.hansa")
    runtimes = [
        hansa.InProcessRuntime(),
        hansa.InProcessRuntime(devices=jax.devices()[:1]),
        hansa.InProcessRuntime(clients_per_chunk=4),
        hansa.ReferenceRuntime(),
    ]
    for runtime in runtimes:
        with hansa.runtime(runtime), hansa.privacy.noise_of(SECRET):
            results += [flat(noised(given)), flat(noised(given[::-1]))]
    with hansa.privacy.noise_of(SECRET):
        results.append(flat(loaded(given)))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    with hansa.privacy.noise_of(SECRET, salt=b"another attempt"):
        assert not np.isin(flat(noised(given)), results[0]).any()


def test_without_a_secret_each_call_draws_noise_of_its_own():
    given = clients(3)
    assert not np.isin(flat(noised(given)), flat(noised(given))).any()


@pytest.mark.slow
def test_two_sums_of_one_computation_have_noise_of_their_own_also_where_they_are_made_by_the_same_code():
    @hansa.federated_computation("{<a=float32[300],b=float32>}@CLIENTS")
    def twice(values):
        return {"first": noised(values), "second": noised(values)}

    given = clients(2)
    for runtime in (hansa.InProcessRuntime(), hansa.ReferenceRuntime()):
        with hansa.runtime(runtime), hansa.privacy.noise_of(SECRET):
            result = twice(given)
        assert not np.isin(flat(result.first), flat(result.second)).any()
    assert len(hansa.privacy.releases(twice)) == 2


@pytest.mark.parametrize("size", [1, 100, 100_000])
def test_encoded_vectors_are_never_longer_than_the_bound(size):
    rng = np.random.default_rng(size)
    encode = jax.jit(lambda x, bound: encoding.encode([x], bound)[0])
    with jax.enable_x64(True):
        for scale in (1e-6, 0.3, 7.0, 1e30):
            x = (scale * rng.standard_normal(size)).astype(np.float32)
            for vector in (
                x,
                np.full(size, scale, np.float32),
                np.float32(scale) * np.eye(1, size, dtype=np.float32)[0],
            ):
                integers = np.asarray(encode(vector, 0.4))
                assert np.sum(np.square(integers)) <= STEPS**2
                exact = vector.astype(np.float64)
                exact *= min(1, 0.4 / np.linalg.norm(exact)) / 0.4
                np.testing.assert_allclose(integers / STEPS, exact, atol=2 / STEPS, rtol=5e-6)


@pytest.mark.parametrize("damaged", [np.nan, np.inf, -np.inf])
def test_a_client_that_is_not_finite_counts_as_zero(damaged):
    given = clients(2)
    given[0]["b"] = np.float32(damaged)
    np.testing.assert_array_equal(flat(without_noise(5.0, given)), flat(without_noise(5.0, given[1:])))
    assert not flat(without_noise(-1.0, given)).any() and not flat(without_noise(np.nan, given)).any()


def test_the_stream_is_that_of_the_rfc():
    # RFC 8439, section 2.3.2.
    key = np.frombuffer(bytes(range(32)), "<u4")
    found = cipher_stream.words(jnp.asarray(key), 16, nonce=(0x09000000, 0x4A000000, 0), first=1)
    expected = (
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4ed2826446079faa0914c2d705d98b02a2b5129cd1de164eb9"
        "cbd083e8a2503c4e"
    )
    assert np.asarray(found).astype("<u4").tobytes().hex() == expected


def test_the_stream_of_many_blocks_is_that_of_another_library():
    algorithms = pytest.importorskip("cryptography.hazmat.primitives.ciphers.algorithms")
    ciphers = pytest.importorskip("cryptography.hazmat.primitives.ciphers")
    stream = ciphers.Cipher(algorithms.ChaCha20(SECRET, bytes(16)), None).encryptor().update(bytes(4000))
    found = cipher_stream.words(jnp.asarray(np.frombuffer(SECRET, "<u4")), 1000)
    assert np.asarray(found).astype("<u4").tobytes() == stream


def test_noise_is_a_rounded_normal_of_the_size_that_is_said():
    draws = 100_000
    draw = jax.jit(lambda keys: encoding.rounded_gaussian(keys, (1.3,), draws))
    with jax.enable_x64(True):
        first, second = (
            np.asarray(draw(np.random.default_rng(seed).integers(0, 2**32, (1, 8), np.uint32))) / (1.3 * STEPS)
            for seed in (0, 1)
        )
    assert abs(first.mean()) < 4 / np.sqrt(draws)
    assert abs(first.std() - 1) < 4 / np.sqrt(2 * draws)
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(draws)
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 4 / np.sqrt(draws)
    edges = stats.norm.ppf(np.linspace(0, 1, 101))
    assert stats.chisquare(np.histogram(first, edges)[0]).pvalue > 1e-4


def test_normal_numbers_reach_beyond_nine_standard_deviations():
    with jax.enable_x64(True):
        smallest = np.sqrt(-2 * np.log(0.5 * 2.0**-64))
    assert smallest > 9.4


@pytest.mark.slow
def test_noise_of_every_report_adds_up_and_is_the_clients_own():
    @hansa.federated_computation("{float32[2000]}@CLIENTS")
    def local(values):
        return hansa.federated_private_sum(values, 1.0, Local(3.0))

    (release,) = hansa.privacy.releases(local)
    assert release.mechanism == Local(3.0)
    given = [np.zeros(2000, np.float32)] * 4
    with hansa.privacy.noise_of(SECRET):
        found = np.asarray(local(given))
        with hansa.runtime(hansa.ReferenceRuntime()):
            np.testing.assert_array_equal(found, np.asarray(local(given)))
    assert abs(found.std() / (3 * 2) - 1) < 4 / np.sqrt(2 * 2000)


def test_more_clients_than_the_integers_hold_are_refused_before_anything_runs():
    with pytest.raises(ValueError, match=r"2048 clients .* max_clients=2048"):
        without_noise(1.0, clients(1) * 2048)


def test_more_clients_fit_twice_the_bits():
    @hansa.federated_computation("{float32[2]}@CLIENTS")
    def many(values):
        return hansa.federated_private_sum(values, 1.0, None, max_clients=5000)

    np.testing.assert_allclose(many([np.float32([0.6, -0.8])] * 3000), [1800.0, -2400.0], atol=0.01)


@pytest.mark.parametrize(
    ("bound", "mechanism", "options", "error", "message"),
    [
        (0.0, Gaussian(1.0), {}, ValueError, "must be a positive number, found 0.0"),
        ("x", Gaussian(1.0), {}, TypeError, "the bound of federated_private_sum"),
        (1.0, 1.0, {}, TypeError, r"must be one of hansa.privacy, .*found the float 1.0"),
        (1.0, Gaussian(1.0), {"max_clients": 0}, ValueError, "max_clients"),
    ],
)
def test_arguments_that_are_wrong_are_named(bound, mechanism, options, error, message):
    with pytest.raises(error, match=message):
        hansa.federated_computation("{float32}@CLIENTS")(
            lambda values: hansa.federated_private_sum(values, bound, mechanism, **options)
        )


def test_integers_are_refused():
    with pytest.raises(TypeError, match="takes floats, found int32"):
        hansa.federated_computation("{int32}@CLIENTS")(
            lambda values: hansa.federated_private_sum(values, 1.0, Gaussian(1.0))
        )


def test_modular_sums_wrap_around():
    @hansa.federated_computation("{uint64[2]}@CLIENTS")
    def total(words):
        return hansa.federated_secure_modular_sum(words)

    given = [np.array([2**64 - 1, 5], np.uint64), np.array([2, 6], np.uint64)]
    for runtime in (hansa.InProcessRuntime(), hansa.ReferenceRuntime()):
        with hansa.runtime(runtime):
            np.testing.assert_array_equal(total(given), np.array([1, 11], np.uint64))
    with pytest.raises(TypeError, match="unsigned integers of 32 or 64 bits, found int32"):
        hansa.federated_computation("{int32}@CLIENTS")(hansa.federated_secure_modular_sum)
