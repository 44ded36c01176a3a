"""Sums and means of floats: the numbers of rational arithmetic, and the same bits however a call is executed."""

import math
from fractions import Fraction

import jax
import numpy as np
import pytest

import hansa

RUNTIMES = {
    "two devices": hansa.InProcessRuntime,
    "one device": lambda: hansa.InProcessRuntime(jax.devices()[:1]),
    "chunks of 1": lambda: hansa.InProcessRuntime(clients_per_chunk=1),
    "chunks of 3": lambda: hansa.InProcessRuntime(clients_per_chunk=3),
    "chunks of 7": lambda: hansa.InProcessRuntime(clients_per_chunk=7),
    "32 at once": lambda: hansa.InProcessRuntime(clients_at_once=32),
    "reference": hansa.ReferenceRuntime,
}
SHAPES = {"few": (3,), "many": (30, 40)}
SOME = ["two devices", "chunks of 3", "reference"]


def computation(shape, weight="int64", dtype="float32"):
    """The sum and the weighted mean of what clients have."""

    @hansa.federated_computation(
        hansa.to_type(f"{{{dtype}{list(shape) if shape else ''}}}@CLIENTS"), f"{{{weight}}}@CLIENTS"
    )
    def both(values, weights):
        return hansa.federated_sum(values), hansa.federated_mean(values, weights), hansa.federated_mean(values)

    return both


def rationally(values, weights):
    """The same in rational numbers, rounded as the documentation says."""
    columns = np.array(values, np.float64).reshape(len(values), -1).T.tolist()
    counts = [Fraction(float(weight)) for weight in weights]
    sums = [float(sum(map(Fraction, column))) for column in columns]
    products = [float(sum(Fraction(x) * w for x, w in zip(column, counts, strict=True))) for column in columns]
    shape, dtype = values[0].shape, values[0].dtype
    total = float(sum(counts))
    found = [sums, [x / total for x in products], [x / len(values) for x in sums]]
    return [np.array(row).reshape(shape).astype(dtype) for row in found]


def decades(rng, number, shape, low, high):
    return [
        (rng.normal(size=shape) * 10.0 ** rng.integers(low, high + 1, shape)).astype(np.float32) for _ in range(number)
    ]


def cases(shape):
    """Clients' values and weights, by what is hard about them."""
    rng = np.random.default_rng(0)
    usual = decades(rng, 23, shape, -4, 0)
    wild = decades(rng, 23, shape, -30, 30)
    counts = [int(w) for w in rng.integers(1, 1000, 23)]
    large = [int(w) for w in rng.integers(1, 2**40, 23)]
    return {
        "usual": (usual, counts),
        "60 decades": (wild, counts),
        "weights to 2**40": (wild, large),
        "cancelling": ([*wild[:11], *(-x for x in wild[:11]), usual[0]], [*large[:11], *large[:11], 3]),
        "one client": (wild[:1], large[:1]),
    }


@pytest.mark.parametrize(
    ("shape", "runtime"),
    [
        *(pytest.param("many", name, marks=[] if name in SOME else [pytest.mark.slow]) for name in RUNTIMES),
        *(("few", name) for name in SOME),
    ],
)
def test_they_are_those_of_rational_numbers_in_any_order(shape, runtime):
    rng = np.random.default_rng(1)
    with hansa.runtime(RUNTIMES[runtime]()):
        both = computation(SHAPES[shape])
        for case, (values, weights) in cases(SHAPES[shape]).items():
            expected = rationally(values, weights)
            order = rng.permutation(len(values))
            found = both([values[i] for i in order], [weights[i] for i in order])
            for part, wanted in zip(found, expected, strict=True):
                np.testing.assert_array_equal(np.asarray(part), wanted, err_msg=case)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", "complex64", "complex128"])
def test_other_dtypes_have_the_same_bits_everywhere(dtype):
    rng = np.random.default_rng(2)
    dtypes = hansa.to_type(dtype).dtype
    number, shape = 9, (40, 30)
    values = [rng.normal(size=shape) * 10.0 ** rng.integers(-3, 3, shape) for _ in range(number)]
    if dtype.startswith("complex"):
        values = [x + 1j * y for x, y in zip(values, values[::-1], strict=True)]
    values = [x.astype(dtypes) for x in values]
    weights = [int(w) for w in rng.integers(1, 2**30, number)]
    results = []
    for name in SOME:
        with hansa.runtime(RUNTIMES[name]()):
            order = rng.permutation(number)
            found = computation(shape, dtype=dtype)([values[i] for i in order], [weights[i] for i in order])
            results.append([np.asarray(part) for part in found])
    assert all([x.tobytes() for x in result] == [x.tobytes() for x in results[0]] for result in results)
    plain = np.array(values).astype(complex if dtype.startswith("complex") else float)
    close = np.average(plain, axis=0, weights=weights)
    mean = results[0][1]
    np.testing.assert_allclose(mean.astype(close.dtype), close, rtol=0.02 if dtype == "bfloat16" else 2e-3, atol=1e-6)


@pytest.mark.parametrize("weight", ["float32", "float64"])
def test_fractions_as_weights(weight):
    rng = np.random.default_rng(3)
    values, weights = decades(rng, 11, (40, 30), -6, 1), list(rng.random(11).astype(weight))
    for runtime in SOME:
        with hansa.runtime(RUNTIMES[runtime]()):
            found = computation((40, 30), weight)(values, weights)
        for part, wanted in zip(found, rationally(values, weights), strict=True):
            np.testing.assert_array_equal(np.asarray(part), wanted, err_msg=runtime)


@pytest.mark.parametrize("runtime", SOME)
def test_nan_and_infinity_stay_where_they_are(runtime):
    values = [np.ones((40, 30), np.float32) * k for k in range(1, 5)]
    values[1][0, :4] = [np.nan, np.inf, -np.inf, np.inf]
    values[2][0, 3] = -np.inf
    with hansa.runtime(RUNTIMES[runtime]()):
        total, mean, plain = computation((40, 30))(values, [1, 2, 3, 4])
    for part, one in ((total, 10), (mean, 3), (plain, 2.5)):
        part = np.array(part)
        np.testing.assert_array_equal(part[0, :4], [np.nan, np.inf, -np.inf, np.nan])
        part[0, :4] = one
        np.testing.assert_array_equal(part, np.full((40, 30), one, np.float32))


@pytest.mark.parametrize("weight", ["float32", "float64"])
def test_at_the_ends_of_float64_all_runtimes_have_the_same(weight):
    most, tiny = np.finfo(np.float64).max, np.finfo(np.float64).tiny
    values = [np.array(row) for row in ([most, most, tiny / 2, 1.0], [most, -most, tiny / 2, 2.0])]
    least = np.finfo(weight).smallest_subnormal
    for weights in ([1.0, 1.0], [2.0, 3.0], [0.5, 0.25], [least, least]):
        found = []
        for runtime in ("one device", "reference"):
            with hansa.runtime(RUNTIMES[runtime]()):
                found.append(computation((4,), weight, "float64")(values, list(np.array(weights, weight))))
        for compiled, plain in zip(*found, strict=True):
            np.testing.assert_array_equal(np.asarray(compiled), plain, err_msg=str(weights))


def test_ten_thousand_clients():
    rng = np.random.default_rng(4)
    values = [np.float32(x) for x in rng.normal(size=10_000) * 10.0 ** rng.integers(-20, 20, 10_000)]
    weights = [int(w) for w in rng.integers(1, 2**40, 10_000)]
    found = computation(())(values, weights)
    for part, wanted in zip(found, rationally(values, weights), strict=True):
        assert part == wanted


def test_a_call_beyond_the_usual_is_compiled_once_more_and_the_next_ones_are_not():
    runtime = hansa.InProcessRuntime()
    usual, wild = cases((30, 40))["usual"], cases((30, 40))["60 decades"]
    with hansa.runtime(runtime):
        both = computation((30, 40))
        before = [np.asarray(part) for part in both(*usual)]
        assert runtime.compilations == 1
        both(*wild)
        assert runtime.compilations == 2
        after = [np.asarray(part) for part in both(*usual)]
        assert runtime.compilations == 2
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_unusually_small_numbers_need_one_part_more_and_no_wide_sums():
    values, weights = cases((30, 40))["usual"]
    values = [np.where(value > 0.5, np.float32(1.7e-19), value) for value in values]
    runtime = hansa.InProcessRuntime()
    with hansa.runtime(runtime):
        both = computation((30, 40))
        found = [both(values, weights) for _ in range(2)][-1]
    for part, wanted in zip(found, rationally(values, weights), strict=True):
        np.testing.assert_array_equal(np.asarray(part), wanted)
    assert (runtime.compilations, set(runtime._compile(both).forms.values())) == (2, {"deep"})


def test_fast_sums_are_floats_added_one_after_another():
    values, weights = cases((30, 40))["usual"]
    with hansa.runtime(hansa.InProcessRuntime(jax.devices()[:1], sums="fast")):
        total, mean, _ = computation((30, 40))(values, weights)
    one_by_one = np.zeros((30, 40), np.float32)
    for value in values:
        one_by_one += value
    np.testing.assert_array_equal(np.asarray(total), one_by_one)
    np.testing.assert_allclose(
        np.asarray(mean), np.average(np.array(values, float), axis=0, weights=weights), rtol=1e-5
    )


def test_another_word_for_sums_is_refused():
    with pytest.raises(ValueError, match="sums must be 'exact' or 'fast', found 'slow'"):
        hansa.InProcessRuntime(sums="slow")


def test_metrics_and_counts_beside_them():
    @hansa.federated_computation("{<a=float32,b=int32,c=float64[2]>}@CLIENTS")
    def totals(values):
        return hansa.federated_sum(values)

    rows = [{"a": 1e30, "b": 2, "c": [1e300, 1.0]}, {"a": 1.0, "b": 3, "c": [1.0, 2.0]}]
    rows.append({"a": -1e30, "b": -1, "c": [-1e300, 4.0]})
    for runtime in SOME:
        with hansa.runtime(RUNTIMES[runtime]()):
            found = totals(rows)
        expected = math.fsum(float(np.float32(x)) for x in (1e30, 1.0, -1e30))
        assert (found.a, found.b, found.c.tolist()) == (np.float32(expected), 4, [1.0, 7.0])
