"""A client draws what its id says: not where it stands, nor who else there is; and copies of it draw differently."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

import hansa
from hansa.simulation import ClientData, SimulatedParticipation, UniformSampler, WeightedSampler

NAMES = ["ann", "bo", "cy", "dee", "eve"]
COUNTS = [1, 2, 3, 2, 1]
KEY = np.array([3, 4], np.uint32)


@hansa.federated_computation("uint32[2]@SERVER", "{<x=int32[?]>*}@CLIENTS")
def draws(key, data):
    import jax

    draw = hansa.jax_computation(lambda key: jax.random.uniform(key), "uint32[2]")
    size = hansa.jax_computation(lambda n, batch: n + batch.x.sum(), "int32", "<x=int32[?]>")
    return hansa.federated_map(draw, hansa.federated_client_key(key)), hansa.sequence_reduce(data, 0, size)


def of(cohort: hansa.ClientBatches) -> list[tuple[Any, float, int]]:
    found, sums = draws(KEY, cohort)
    return list(zip(cohort.client_ids.tolist(), map(float, found), map(int, sums), strict=True))


def arrays_of(client: Any) -> dict[str, Any]:
    return {"x": np.full(COUNTS[NAMES.index(client)], 10 + NAMES.index(client), np.int32)}


def columns(names: list[Any], ids: list[Any] | None = None) -> hansa.ClientBatches:
    """Batches made anew, of these clients in this order."""
    sizes = [COUNTS[NAMES.index(name)] for name in names]
    x = np.concatenate([arrays_of(name)["x"] for name in names])
    return hansa.ClientBatches({"x": x}, np.cumsum([0, *sizes]), 2, ids or names)


@pytest.fixture(params=["compiled", "reference"])
def runtime(request: pytest.FixtureRequest) -> Any:
    chosen = hansa.InProcessRuntime() if request.param == "compiled" else hansa.ReferenceRuntime()
    with hansa.runtime(chosen):
        yield chosen


def test_a_client_draws_the_same_wherever_it_stands(runtime: Any) -> None:
    whole = columns(NAMES)
    expected = {name: (name, draw, total) for name, draw, total in of(whole)}
    assert len({draw for _, draw, _ in expected.values()}) == len(NAMES)
    some = ["dee", "ann", "cy"]
    positions = [NAMES.index(name) for name in some]
    everybody = ClientData.from_clients({name: arrays_of(name) for name in NAMES}).batch(2)
    read = ClientData.from_function(NAMES[::-1], arrays_of).batch(2)
    for cohort in (
        whole.select(positions),
        whole.select(positions[::-1]).select([2, 1, 0]),
        columns(some),
        columns(NAMES[::-1]).select([NAMES[::-1].index(name) for name in some]),
        everybody.cohort(positions),
        everybody.filter_clients(lambda name: name in some).cohort([2, 0, 1]),
        read.cohort(read.positions(some)),
        ClientData.from_clients({"zoe": arrays_of("bo")})
        .concatenate(ClientData.from_function(some, arrays_of))
        .batch(2)
        .cohort([1, 2, 3]),
    ):
        assert of(cohort) == [expected[name] for name in some]


def test_integers_of_any_size_are_ids(runtime: Any) -> None:
    ids = [2**70, -5, 0]
    first = {client: draw for client, draw, _ in of(columns(NAMES[:3], ids))}
    again = {client: draw for client, draw, _ in of(columns(NAMES[1:3], [-5, 2**70]))}
    assert len(set(first.values())) == 3
    assert again == {client: first[client] for client in again}
    assert columns(NAMES[:3], ids).client_ids.tolist() == ids


def test_small_integers_draw_as_their_position_in_a_list_does(runtime: Any) -> None:
    anonymous, _ = draws(KEY, [[arrays_of(name)] for name in NAMES[:3]])
    assert [draw for _, draw, _ in of(columns(NAMES[:3], [0, 1, 2]))] == [float(draw) for draw in anonymous]


def test_an_order_after_shuffle_is_the_clients_own() -> None:
    arrays = {name: {"x": np.arange(50) + place} for place, name in enumerate(NAMES)}
    orders = ClientData.from_clients(arrays).shuffle(5)
    alone = ClientData.from_clients({"dee": arrays["dee"]}).shuffle(5)
    assert alone.client("dee")["x"].tolist() == orders.client("dee")["x"].tolist()
    assert (orders.client("ann")["x"] != orders.client("dee")["x"] - 3).any()


def test_two_arguments_are_of_the_same_clients() -> None:
    both = hansa.federated_computation(
        lambda a, b: (hansa.sequence_sum(a), hansa.sequence_sum(b)), "{int32[2]*}@CLIENTS", "{int32[2]*}@CLIENTS"
    )
    x = np.zeros(4, np.int32)
    first, second = (hansa.ClientBatches(x, [0, 2, 4], 2, ids) for ids in (["a", "b"], ["b", "a"]))
    with pytest.raises((ValueError, TypeError), match=r"other clients than .*: their client_ids differ"):
        both(first, second)


def test_training_draws_by_id() -> None:
    import jax
    import optax

    def noisy(weights: Any, batch: Any, training: bool, rng: Any) -> hansa.learning.BatchOutput:
        return hansa.learning.BatchOutput((weights["w"] - batch.x + jax.random.normal(rng)).mean() ** 2)

    model = hansa.learning.functional_model(
        {"w": np.zeros(())}, noisy, input_spec=columns(NAMES).examples.kind, optimizer=optax.sgd(0.1)
    )
    process = hansa.learning.build_federated_averaging_process(model)
    state = process.initialize()

    def trained(cohort: hansa.ClientBatches) -> float:
        return float(process.next(state, cohort)[0].model.trainable["w"])

    alone = trained(columns(["cy"]))
    assert alone == trained(columns(NAMES).select([2])) == trained(columns(["ann", "cy"]).select([1]))
    assert alone != trained(columns(["cy"], ["cyril"]))
    assert alone != trained(columns(["cy"]).select([0, 0]))


class TestReplacement:
    def test_samplers_draw_each_from_everybody(self) -> None:
        sampler = UniformSampler(5, 400, seed=1, replace=True)
        assert repr(sampler) == "UniformSampler(400 of 5 clients, seed 1, with replacement)"
        assert np.array_equal(sampler(3), sampler(3))
        counts = Counter(sampler(3).tolist())
        assert set(counts) == set(range(5))
        assert max(abs(count - 80) for count in counts.values()) < 40  # five deviations
        with pytest.raises(ValueError, match="cohort_size must be from 1 to the number of clients, 5"):
            UniformSampler(5, 6)

    def test_weights_are_chances(self) -> None:
        sampler = WeightedSampler([1, 0, 3], 4000, seed=2, replace=True)
        assert repr(sampler).endswith("clients by weight, seed 2, with replacement)")
        counts = np.bincount(sampler(0), minlength=3)
        assert counts[1] == 0
        assert abs(counts[2] - 3000) < 5 * np.sqrt(4000 * 0.75 * 0.25)
        with pytest.raises(ValueError, match="clients with a weight of more than 0"):
            WeightedSampler([0, 0], 1, replace=True)

    def test_a_cohort_has_copies_only_where_that_is_asked_for(self) -> None:
        data = ClientData.from_function(NAMES, arrays_of).batch(2)
        with pytest.raises(
            ValueError, match="position 2 twice; a client takes part in a round once, unless replace=True"
        ):
            data.cohort([2, 0, 2])
        assert data.cohort([2, 0, 2], replace=True).client_ids.tolist() == ["cy", "ann", "cy"]

    @pytest.mark.parametrize("lazily", [False, True])
    def test_copies_draw_differently_and_the_first_as_ever(self, runtime: Any, lazily: bool) -> None:
        data = ClientData.from_function(NAMES, arrays_of)
        data = (data if lazily else data.in_memory()).batch(2)
        cohort = data.cohort([2, 0, 2, 2], replace=True)
        found = of(cohort)
        assert [(name, total) for name, _, total in found] == [("cy", 36), ("ann", 10), ("cy", 36), ("cy", 36)]
        assert len({draw for _, draw, _ in found}) == 4
        assert found[:2] == of(data.cohort([2, 0]))
        # A copy's draws are those of its number, whoever else there is.
        assert [found[i] for i in (0, 2)] == of(data.cohort([2, 2], replace=True))

    def test_copies_have_orders_of_their_own_and_the_same_examples(self) -> None:
        data = ClientData.from_clients({"ann": {"x": np.arange(40)}, "bo": {"x": np.arange(3)}})
        train, _ = data.split(0.25, by="examples")
        cohort = train.shuffle(1).batch(40).cohort([0, 1, 0], round_number=2, replace=True)
        first, _, second = ([batch.x.tolist() for batch in batches] for batches in cohort)
        assert first != second
        assert sorted(first[0]) == sorted(second[0]) == train.client("ann")["x"].tolist()
        assert first == [batch.x.tolist() for batch in train.shuffle(1).batch(40).cohort([0], 2)[0]]

    def test_a_run_may_sample_with_replacement(self) -> None:
        seen: list[Any] = []

        @hansa.federated_computation("{<x=int32[?]>*}@CLIENTS")
        def total(data):
            add = hansa.jax_computation(lambda n, batch: n + batch.x.sum(), "int32", "<x=int32[?]>")
            return hansa.federated_sum(hansa.sequence_reduce(data, 0, add))

        data = ClientData.from_clients({name: arrays_of(name) for name in NAMES}).batch(2)
        cohorts = hansa.program.cohorts.Cohorts(data, None, UniformSampler(5, 8, seed=1, replace=True), 0)
        for round_number in range(3):
            cohort, positions = cohorts(round_number)
            assert positions is not None
            expected = sum(COUNTS[p] * (10 + p) for p in positions.tolist())
            seen.append((len(set(positions.tolist())), int(total(cohort)) == expected))
        assert all(right and different < 8 for different, right in seen)

    def test_simulated_participation_takes_copies(self) -> None:
        outcome = SimulatedParticipation(UniformSampler(3, 9, replace=True), [2, 2, 2], goal=7)(0)
        assert len(outcome.counted) == 7


class TestHeldOutClients:
    @pytest.mark.parametrize("lazily", [False, True])
    def test_they_have_examples(self, lazily: bool) -> None:
        sizes = np.random.default_rng(0).integers(0, 2, 60) * 3
        read: list[int] = []

        def one(client: int) -> dict[str, Any]:
            read.append(client)
            return {"x": np.zeros(sizes[client])}

        data = ClientData.from_function(range(60), one, None if lazily else sizes)
        for seed in range(5):
            read.clear()
            train, test = data.split(0.3, seed=seed)
            assert len(test) == round((60 if lazily else np.count_nonzero(sizes)) * 0.3)
            assert all(sizes[client] for client in test.client_ids)
            assert sorted([*train.client_ids, *test.client_ids]) == list(range(60))
            assert (len(read) < 60) if lazily else not read

    def test_after_a_filter_too(self) -> None:
        data = ClientData.from_arrays({"x": np.arange(40)}, np.arange(40) // 2).filter(lambda a: a["x"] >= 36)
        for seed in range(5):
            assert data.split(0.5, seed=seed)[1].client_ids[0] in (18, 19)

    def test_somebody_with_examples_is_left(self) -> None:
        data = ClientData.from_arrays({"x": np.arange(3)}, [1, 1, 1], client_ids=[0, 1, 2])
        with pytest.raises(ValueError, match="of 1 clients with examples is 1, which leaves one part without clients"):
            data.split(0.5)
