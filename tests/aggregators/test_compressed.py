"""Rules of codecs over rounds: draws, error feedback, nesting, bytes; against NumPy in float64."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import hansa
from hansa import aggregators
from hansa.aggregators import codecs
from tests.aggregators import codec_oracles as oracle

KIND = "<kernel=float32[30,2],bias=float32[5]>"
SIZE = 65
CLIENTS = 5
WEIGHTS = [1.0, 3.0, 0.0, 2.0, 2.0]
"""The weights of the clients; one is left out."""


def values_of(seed: int) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
    rows = np.random.default_rng(seed).normal(size=(CLIENTS, SIZE)).astype("float32")
    return rows, [{"kernel": row[:60].reshape(30, 2), "bias": row[60:]} for row in rows]


def vector(result: Any) -> np.ndarray:
    return np.concatenate([np.ravel(result.kernel), np.ravel(result.bias)])


def keys_of(name: str, seed: int, rounds: int, client: int | None = None) -> Any:
    named = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    key = jax.random.fold_in(named, rounds)
    return key if client is None else jax.random.fold_in(key, client)


def mean(rows: Any) -> np.ndarray:
    return np.average(np.array(rows), axis=0, weights=WEIGHTS)


def state_of(aggregation: Any) -> str:
    return str(aggregation.state_type.compact())


@pytest.mark.slow
def test_a_client_s_draws_are_its_own_in_each_round_wherever_it_stands() -> None:
    aggregation = aggregators.quantised(bits=2, bucket=16, seed=3)(KIND)
    assert (state_of(aggregation), aggregation.needs) == ("<rounds=int32>@SERVER", "each")
    decoded = oracle.quantised(2, 16)
    state = aggregation.initialize()
    for rounds in range(2):
        rows, values = values_of(rounds)
        result = aggregation.next(state, values, WEIGHTS).result
        of_each = [decoded(row.astype(float), keys_of("quantised", 3, rounds, i)) for i, row in enumerate(rows)]
        np.testing.assert_allclose(vector(result), mean(of_each), atol=1e-6)
        with hansa.runtime(hansa.ReferenceRuntime()):
            same = aggregation.next(state, values, WEIGHTS)
        np.testing.assert_array_equal(vector(same.result), vector(result))
        state = same.state
    assert int(state.rounds) == 2
    nobody = aggregation.next(state, values, [0.0] * CLIENTS)
    assert int(nobody.state.rounds) == 2 and not vector(nobody.result).any()
    spoiled = aggregation.next(state, [{**values[0], "bias": np.full(5, np.nan, "float32")}, *values[1:]], WEIGHTS)
    assert np.isfinite(vector(spoiled.result)).all()


def test_error_feedback_adds_what_was_left_out_and_stays_with_a_client_that_is_left_out() -> None:
    """Karimireddy et al. 2019, Algorithm 2, with the compressor top-k."""
    aggregation = aggregators.top_k(share=0.1)(KIND)
    assert state_of(aggregation) == f"<server=<>@SERVER,clients={{<error=float32[{SIZE}]>}}@CLIENTS>"
    state, errors = aggregation.initialize(), np.zeros((CLIENTS, SIZE))
    for rounds in range(3):
        rows, values = values_of(rounds)
        state, result, _ = aggregation.next(state, values, WEIGHTS)
        meant = rows + errors
        sent = np.array([oracle.top_k(0.1)(each, None) for each in meant])
        np.testing.assert_allclose(vector(result), mean(sent), atol=1e-6)
        errors = np.where(np.array(WEIGHTS)[:, None] > 0, meant - sent, errors)
        kept = np.array([state.clients[place].error for place in range(CLIENTS)])
        np.testing.assert_allclose(kept, errors, atol=1e-6)
    assert not errors[2].any() and errors[0].any()


def test_a_linear_code_needs_sums_only_and_all_clients_send_the_same_places() -> None:
    rule = aggregators.clipping(aggregators.random_k(share=0.2, seed=1), bound=4.0)
    aggregation = rule(KIND)
    assert (state_of(aggregation), aggregation.needs) == ("<random_k=<rounds=int32>>@SERVER", "sums")
    rows, values = values_of(0)
    norms = np.linalg.norm(rows.astype(float), axis=1, keepdims=True)
    clipped = rows * np.minimum(1, 4 / norms)
    expected = oracle.random_k(0.2)(mean(clipped), keys_of("random_k", 1, 0))
    output = aggregation.next(aggregation.initialize(), values, WEIGHTS)
    np.testing.assert_allclose(vector(output.result), expected, atol=1e-6)
    assert int(output.state.random_k.rounds) == 1
    each = aggregators.random_k(aggregators.median(), share=0.2)("float32[10]")
    assert each.needs == "each"


@pytest.mark.slow
def test_the_server_of_a_sketch_keeps_what_it_has_not_decoded() -> None:
    """FetchSGD: Rothchild et al. 2020, Algorithm 1 without momentum."""
    aggregation = aggregators.sketched(rows=5, columns=20, keep=0.1)(KIND)
    assert aggregation.needs == "sums"
    state, error = aggregation.initialize(), np.zeros((5, 20))
    for rounds in range(3):
        rows, values = values_of(rounds)
        state, result, _ = aggregation.next(state, values, WEIGHTS)
        total = error + oracle.sketch_of(mean(rows), 5, 20)
        found = oracle.top_k(0.1)(oracle.estimates(total, SIZE), None)
        error = total - oracle.sketch_of(found, 5, 20)
        np.testing.assert_allclose(vector(result), found, atol=1e-5)
        np.testing.assert_allclose(state.error.sketch, error, atol=1e-5)
    nobody = aggregation.next(state, values, [0.0] * CLIENTS)
    np.testing.assert_array_equal(nobody.state.error.sketch, state.error.sketch)
    assert not vector(nobody.result).any()


@pytest.mark.slow
def test_values_are_rotated_the_same_way_and_back() -> None:
    aggregation = aggregators.rotated(aggregators.mean(), block=64)(KIND)
    assert (state_of(aggregation), aggregation.needs) == ("<rounds=int32>@SERVER", "sums")
    rows, values = values_of(0)
    output = aggregation.next(aggregation.initialize(), values, WEIGHTS)
    np.testing.assert_allclose(vector(output.result), mean(rows), atol=1e-6)
    quantised = aggregators.rotated(aggregators.clipping(aggregators.quantised(bits=8), bound=100.0))(KIND)
    assert state_of(quantised) == "<rounds=int32,clipping=<quantised=<rounds=int32>>>@SERVER"
    output = quantised.next(quantised.initialize(), values, WEIGHTS)
    np.testing.assert_allclose(vector(output.result), mean(rows), atol=0.05)
    assert output.measurements.clipping.num_clipped == 0


@pytest.mark.slow
def test_a_majority_votes_and_a_rule_of_all_values_takes_what_is_decoded() -> None:
    rows, values = values_of(0)
    counted = rows[[0, 1, 3, 4]].astype(float)
    vote = aggregators.sign(majority=True)(KIND)
    result = vote.next(vote.initialize(), values, WEIGHTS).result
    np.testing.assert_array_equal(vector(result), np.sign(np.where(counted >= 0, 1, -1).sum(0)))
    median = aggregators.sign(aggregators.median(), error_feedback=False)(KIND)
    result = median.next(median.initialize(), values, WEIGHTS).result
    np.testing.assert_allclose(vector(result), np.median([oracle.sign(row, None) for row in counted], 0), atol=1e-6)


MESSAGES = {
    "quantised": (aggregators.quantised(bits=4, bucket=16), 33 + 8 * 5),
    "ternary": (aggregators.ternary(), 13 + 4),
    "drive": (aggregators.drive(), 16 + 4 + 8),
    "eden": (aggregators.eden(bits=3), 48 + 4 + 8),
    "sign": (aggregators.sign(), 9 + 4),
    "majority": (aggregators.sign(majority=True), 9),
    "top_k": (aggregators.top_k(share=0.1), 4 * 6 + 6),
    "random_k": (aggregators.random_k(share=0.1), 4 * 6 + 4),
    "sketched": (aggregators.sketched(rows=3, columns=10), 4 * 30),
    "mean": (aggregators.mean(), 4 * SIZE),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_explain_counts_the_bytes_that_are_sent(name: str) -> None:
    """Beside its message a client sends its weight; of `random_k` also that it is counted, for the state."""
    rule, message = MESSAGES[name]
    explained = hansa.explain(rule(KIND).next)
    assert explained.bytes_up == message + 4


@pytest.mark.slow
def test_a_rule_is_saved_with_what_clients_keep(tmp_path: Path) -> None:
    process = aggregators.eden(bits=2, error_feedback=True)(KIND)
    hansa.save(process, tmp_path / "rule.hansa")
    loaded = hansa.load(tmp_path / "rule.hansa")
    assert loaded.state_type == process.state_type
    _, values = values_of(0)
    one, other = (each.next(each.initialize(), values, WEIGHTS) for each in (process, loaded))
    np.testing.assert_allclose(vector(one.result), vector(other.result), atol=1e-6)
    np.testing.assert_allclose(one.state.clients[0].error, other.state.clients[0].error, atol=1e-6)


@pytest.mark.slow
def test_other_dtypes_come_back_as_they_were() -> None:
    kind = "<wide=float64[3],half=float16[4]>"
    aggregation = aggregators.quantised(bits=8)(kind)
    value = {"wide": np.float64([0.0, 1.0, 0.5]), "half": np.float16([0.25, 1.0, 0.0, 1.0])}
    result = aggregation.next(aggregation.initialize(), [value], [1.0]).result
    assert (result.wide.dtype, result.half.dtype) == (np.float64, np.float16)
    np.testing.assert_allclose(result.wide, value["wide"], atol=1 / 255)


def test_what_does_not_fit_together_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"decodes the messages of drive, .* found clipping\(.*; put drive inside of"):
        aggregators.drive(aggregators.clipping())
    with pytest.raises(TypeError, match=r"compressed takes a codec of hansa.aggregators.codecs, .* found 8"):
        aggregators.compressed(8)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"top_k\(.*keeps something at the clients, and each round has a rotation"):
        aggregators.rotated(aggregators.top_k())(KIND)
    with pytest.raises(ValueError, match="takes in no other rule"):
        aggregators.sign(aggregators.mean(), majority=True)
    with pytest.raises(ValueError, match="give keep, the share"):
        aggregators.sketched(error_feedback=True)
    with pytest.raises(ValueError, match="draws of a Codec must be 'own', 'shared' or 'nothing', found 'mine'"):
        codecs.Codec("odd", lambda x, key: {}, lambda message, size, key: message, draws="mine")  # type: ignore
