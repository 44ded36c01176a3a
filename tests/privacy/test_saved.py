"""Private computations in files: what they release is what it was, with the same noise of the same secret."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import hansa
from hansa.language.computations import GraphComputation
from hansa.language.declared_flows import DeclaredFlows, declared_flows
from hansa.privacy import Gaussian, Local, Matrix, Skellam, noise_of, releases, require_private, require_protected
from tests.program.private_run import averaging, population, run, seeded_like

SECRET = bytes(range(32))
PROCESS = averaging()


def loaded(value: Any) -> Any:
    """It as it comes out of a file."""
    file = io.BytesIO()
    hansa.save(value, file, platforms=["cpu"])
    return hansa.load(file.getvalue())


def bits(value: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(value)]


@pytest.mark.parametrize(
    "mechanism",
    [
        Gaussian(2.0),
        Matrix(1.0, terms=3, power=0.5, separation=4, rounds=6),
        pytest.param(Local(2.0), marks=pytest.mark.slow),
        pytest.param(Skellam(1.5, min_cohort=3, corrupt=0.2), marks=pytest.mark.slow),
    ],
    ids=lambda mechanism: type(mechanism).__name__,
)
def test_a_loaded_process_releases_the_same_sums_with_the_same_noise(mechanism):
    process = averaging(mechanism)
    again = loaded(process)
    assert [(each.mechanism, each.paths) for each in releases(again)] == [(mechanism, ("the result",))]
    require_private(again)
    if mechanism.place != "reports":  # of which the server sees each, with its noise
        require_protected(again)
    said, found = hansa.explain(process), hansa.explain(again)
    assert found.private == said.private == ["the result"] and not found.released
    assert str(mechanism) in str(found)
    cohort, states = population().cohort(range(6)), {}
    for one in (process, again):
        state = one.initialize()
        for number in (1, 2, 3):
            with noise_of(SECRET, round_number=number):
                state = one.next(state, cohort)
        states[one] = bits(state)
    assert states[process] == states[again]


def test_what_leaks_still_does_when_it_is_loaded():
    leaking = loaded(averaging(leak=True))
    with pytest.raises(
        ValueError, match=r"metrics\.sum is made of federated_sum at private_run\.py:\d+, without noise"
    ):
        require_private(leaking)
    require_private(leaking, open=("metrics",))
    twice = loaded(leaking.next)  # of a file, in a file
    assert releases(twice) == releases(leaking)
    with pytest.raises(ValueError, match=r"metrics\.sum is made of federated_sum"):
        require_private(twice)


def test_correlated_noise_of_a_file_ends_with_its_rounds():
    process = loaded(averaging(Matrix(1.0, terms=3, power=0.5, separation=4, rounds=6)))
    cohort = population().cohort(range(6))
    with (
        pytest.raises(ValueError, match="this is round 7, and the noise is for rounds 1 to 6"),
        noise_of(SECRET, round_number=7),
    ):
        process.next(process.initialize(), cohort)
    with pytest.raises(ValueError, match="needs to know which round it is"):
        process.next(process.initialize(), cohort)


def test_what_a_loaded_computation_is_given_is_followed_through_it():
    @hansa.federated_computation("float32@SERVER", "{float32}@CLIENTS")
    def around(centre, values):
        minus = hansa.jax_computation(lambda value, centre: value - centre)
        away = hansa.federated_map(minus, [values, hansa.federated_broadcast(centre)])
        return hansa.federated_private_sum(away, 1.0, Gaussian(2.0)), centre

    inner = loaded(around)
    require_private(inner)

    @hansa.federated_computation("{float32}@CLIENTS")
    def of_the_mean(values):
        return inner(hansa.federated_mean(values), values)

    @hansa.federated_computation("{float32}@CLIENTS")
    def of_a_noised_sum(values):
        return inner(hansa.federated_private_sum(values, 1.0, Gaussian(3.0)), values)

    with pytest.raises(ValueError, match=r"\[0\], \[1\] are made of federated_mean"):
        require_private(of_the_mean)
    require_private(of_a_noised_sum)
    assert sorted(each.mechanism.noise_multiplier for each in releases(of_a_noised_sum)) == [2.0, 3.0]
    with noise_of(SECRET):
        assert np.isfinite(np.asarray(of_a_noised_sum([0.1, 0.5])[0]))


def test_a_file_that_says_other_noise_than_it_asks_for_is_refused():
    computation = averaging(Matrix(1.0, terms=3, power=0.5, separation=4, rounds=6)).next
    assert isinstance(computation, GraphComputation)
    said = declared_flows(computation)
    assert said is not None
    written = json.loads(json.dumps(said.encode()))
    signature = computation.type_signature

    def changed(**given: Any) -> dict[str, Any]:
        mechanism = {**written["sources"][0]["mechanism"], **given}
        return {**written, "sources": [{**written["sources"][0], "mechanism": mechanism}]}

    DeclaredFlows.decode(written, signature).check(computation)
    for other in (changed(settings={"noise_multiplier": 9.0}), {"sources": [], "results": [[False, [], [], [0]]]}):
        with pytest.raises(ValueError, match="noise is asked for 1 times"):
            DeclaredFlows.decode(other, signature).check(computation)
    for bad in (
        {**written, "results": []},
        {**written, "results": [[False, [], [3], []]]},
        {**written, "results": [[False, [], [-1], []]]},
        changed(place="nowhere"),
        changed(settings={"noise_multiplier": "much"}),
        {**written, "sources": [{**written["sources"][0], "mechanism": None}]},
    ):
        with pytest.raises(ValueError):
            DeclaredFlows.decode(bad, signature)
    unknown = DeclaredFlows.decode(changed(kind="Laplace"), signature)
    again = GraphComputation("step", computation.parameter, computation.result, declared=unknown)
    with pytest.raises(ValueError, match="a mechanism 'Laplace' that this Hansa does not know"):
        releases(again)


@pytest.mark.slow
def test_a_run_of_a_loaded_process_is_charged_and_goes_as_that_of_the_traced_one(tmp_path: Path):
    pytest.importorskip("dp_accounting", reason="the extra hansa[privacy]")
    first = run(tmp_path / "traced", 3, PROCESS)
    results = []
    for name in ("once", "again"):
        seeded_like(tmp_path / name, tmp_path / "traced")
        results.append(run(tmp_path / name, 3, loaded(PROCESS)))
    assert [each.privacy for each in results] == [first.privacy] * 2
    # The same file, secrets and data have the same noise: what the rounds are made of is known of a file, too.
    np.testing.assert_array_equal(np.asarray(results[0].state), np.asarray(results[1].state))
