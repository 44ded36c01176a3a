"""Populations give the examples that a loop over the clients gives, and read no more than they have to."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hansa
from hansa.simulation import ClientData, load_digits
from hansa.types.identities import numbers

SIZES = [5, 0, 3, 7]
X = np.arange(30, dtype=np.float32).reshape(15, 2)
Y = (np.arange(15) % 4).astype(np.int32)
OWNERS = np.repeat(["ann", "bo", "cy", "di"], SIZES)


def rows_of(client: str) -> npt.NDArray[np.int64]:
    return np.flatnonzero(client == OWNERS)


def arrays_of(client: str) -> dict[str, Any]:
    return {"x": X[rows_of(client)], "y": Y[rows_of(client)]}


class Reader:
    """Reads clients, and remembers whom."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, client: str) -> dict[str, Any]:
        self.read.append(client)
        return arrays_of(client)


NAMES = ["ann", "bo", "cy", "di"]


def mixed() -> ClientData:
    order = np.random.default_rng(0).permutation(15)
    back = np.argsort(order)
    # Stable within a client: so put each client's examples in ascending order.
    owners = OWNERS[order]
    x, y = X[order].copy(), Y[order].copy()
    for name in NAMES:
        places = np.flatnonzero(owners == name)
        x[places], y[places] = X[rows_of(name)], Y[rows_of(name)]
    assert not np.array_equal(back, np.arange(15))
    return ClientData.from_arrays({"x": x, "y": y}, owners, client_ids=NAMES)


MAKERS: dict[str, Callable[[], ClientData]] = {
    "arrays": lambda: ClientData.from_arrays({"x": X, "y": Y}, OWNERS, client_ids=NAMES),
    "mixed arrays": mixed,
    "clients": lambda: ClientData.from_clients({name: arrays_of(name) for name in NAMES}),
    "function": lambda: ClientData.from_function(NAMES, arrays_of),
    "function with sizes": lambda: ClientData.from_function(NAMES, arrays_of, sizes=SIZES),
    "kept function": lambda: ClientData.from_function(NAMES, arrays_of).in_memory(),
    "two populations": lambda: ClientData.from_function(NAMES[:1], arrays_of).concatenate(
        ClientData.from_function(NAMES[1:], arrays_of)
    ),
    "chosen clients": lambda: ClientData.from_function(["zoe", *NAMES], arrays_of).filter_clients(lambda n: n != "zoe"),
}


def equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def lists(cohort: hansa.ClientBatches) -> list[list[tuple[Any, Any]]]:
    return [[(batch.x.tolist(), batch.y.tolist()) for batch in client] for client in cohort]


def by_hand(arrays: dict[str, Any], batch_size: int) -> list[tuple[Any, Any]]:
    size = len(arrays["y"])
    starts = range(0, size, batch_size)
    return [(arrays["x"][i : i + batch_size].tolist(), arrays["y"][i : i + batch_size].tolist()) for i in starts]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
class TestEverySource:
    def test_it_has_its_clients(self, make: Callable[[], ClientData]) -> None:
        data = make()
        assert list(data.client_ids) == NAMES
        assert len(data) == 4
        assert data.sizes.tolist() == SIZES
        assert data.sizes.dtype == np.int64
        assert data.example_type == hansa.to_type("<x=float32[?,2],y=int32[?]>")
        for name in NAMES:
            equal(data.client(name), arrays_of(name))
        equal(data.centralized(), {"x": X, "y": Y})

    def test_a_cohort_is_its_clients_batches(self, make: Callable[[], ClientData]) -> None:
        cohort = make().batch(3).cohort([3, 1, 0])
        assert lists(cohort) == [by_hand(arrays_of(name), 3) for name in ("di", "bo", "ann")]

    def test_every_epoch_has_batches_of_its_own(self, make: Callable[[], ClientData]) -> None:
        cohort = make().batch(3).repeat(2).cohort([0, 2])
        assert lists(cohort) == [by_hand(arrays_of(name), 3) * 2 for name in ("ann", "cy")]
        assert make().repeat(2).sizes.tolist() == [2 * size for size in SIZES]
        assert len(make().repeat(2).client("ann")["y"]) == 10

    def test_steps_apply_in_their_order(self, make: Callable[[], ClientData]) -> None:
        steps = make().map(lambda a: {"x": a["x"] * 2, "y": a["y"]}).filter(lambda a: a["y"] != 1).take(3)
        for name in NAMES:
            kept = [row for row in rows_of(name) if Y[row] != 1][:3]
            equal(steps.client(name), {"x": X[kept] * 2, "y": Y[kept]})
        assert steps.sizes.tolist() == [min(3, (Y[rows_of(name)] != 1).sum()) for name in NAMES]
        assert lists(steps.batch(2).cohort([0]))[0] == by_hand(steps.client("ann"), 2)
        assert (
            steps.take(1).filter(lambda a: a["y"] != 0).sizes.tolist()
            != steps.filter(lambda a: a["y"] != 0).take(1).sizes.tolist()
        )

    def test_a_shuffle_is_a_permutation_of_its_own_for_each_client_round_and_epoch(
        self, make: Callable[[], ClientData]
    ) -> None:
        data = make().shuffle(5).repeat(2).batch(3)
        orders = []
        for round_number in (0, 1):
            (batches,) = lists(data.cohort([3], round_number))
            assert [len(y) for _, y in batches] == [3, 3, 1, 3, 3, 1]
            for epoch in (batches[:3], batches[3:]):
                order = [row for x, _ in epoch for row in x]
                orders.append(order)
                assert sorted(order) == arrays_of("di")["x"].tolist()
                assert all(Y[int(row[0]) // 2] == label for x, y in epoch for row, label in zip(x, y, strict=True))
        assert len({str(order) for order in orders}) == 4
        # Of nothing else: not of who else is there, nor of what was asked before.
        again = make().shuffle(5).repeat(2).batch(3)
        assert lists(again.cohort([0, 3, 2], 1))[1] == lists(data.cohort([3], 1))[0]
        joint = again.client("di", round_number=1)
        assert joint["x"].tolist() == orders[2] + orders[3]
        assert lists(make().shuffle(6).repeat(2).batch(3).cohort([3])) != lists(data.cohort([3], 0))

    def test_examples_are_held_out_within_each_client(self, make: Callable[[], ClientData]) -> None:
        train, test = make().split(0.3, by="examples", seed=1)
        assert test.sizes.tolist() == [int(size * 0.3 + 0.5) for size in SIZES]
        for name in NAMES:
            both = [*train.client(name)["x"].tolist(), *test.client(name)["x"].tolist()]
            assert sorted(both) == arrays_of(name)["x"].tolist()
            assert train.client(name)["x"].tolist() == sorted(train.client(name)["x"].tolist())
        equal(make().split(0.3, by="examples", seed=1)[1].centralized(), test.centralized())

    def test_clients_are_held_out(self, make: Callable[[], ClientData]) -> None:
        train, test = make().split(0.25, seed=2)
        assert len(train) == 3
        assert sorted([*train.client_ids, *test.client_ids]) == NAMES
        equal(test.client(test.client_ids[0]), arrays_of(test.client_ids[0]))


@pytest.mark.filterwarnings("ignore:client_of has no client")
@given(st.lists(st.integers(-1, 5), min_size=1, max_size=40), st.integers(1, 4))
def test_examples_go_to_their_clients_and_others_to_nobody(owners: list[int], batch_size: int) -> None:
    x = np.arange(len(owners))
    if max(owners) < 0:
        with pytest.raises(ValueError, match="no clients"):
            ClientData.from_arrays({"x": x}, owners)
        return
    data = ClientData.from_arrays({"x": x}, owners)
    assert list(data.client_ids) == sorted({owner for owner in owners if owner >= 0})
    for client in data.client_ids:
        assert data.client(client)["x"].tolist() == [i for i, owner in enumerate(owners) if owner == client]
    cohort = data.batch(batch_size).cohort(np.arange(len(data)))
    assert [row for client in cohort for batch in client for row in batch.x] == data.centralized()["x"].tolist()


def test_owners_may_be_strings_or_nobody() -> None:
    with pytest.warns(UserWarning, match="client_of has no client for 2 of 5 rows, the first of which is row 1"):
        data = ClientData.from_arrays({"x": np.arange(5)}, ["b", None, "a", "b", float("nan")])
    assert list(data.client_ids) == ["a", "b"]
    assert data.client("b")["x"].tolist() == [0, 3]
    for population in (data, data.map(lambda a: a), data.in_memory(), data.take_clients(1)):
        assert population.num_left_out == 2
    assert repr(data) == "ClientData(2 clients, 3 examples, 1 to 2 each, 2 of nobody left out: <x=int64[?]>)"
    with pytest.warns(UserWarning, match="for 1 of 3 rows"):
        numbered = ClientData.from_arrays({"x": np.arange(3)}, [None, 7, 2])
    assert list(numbered.client_ids) == [2, 7]
    assert data.concatenate(ClientData.from_clients({"z": {"x": np.arange(2)}})).num_left_out == 2


def test_nothing_is_said_where_nobody_is_left_out() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = ClientData.from_arrays({"x": np.arange(4)}, np.array([-7, 2**62, -7, 5]))
    assert (list(data.client_ids), data.num_left_out) == ([-7, 5, 2**62], 0)
    assert data.client(-7)["x"].tolist() == [0, 2]


class TestResidence:
    def test_cohorts_share_the_arrays_where_nothing_is_done_anew(self) -> None:
        data = MAKERS["mixed arrays"]().map(lambda a: {"x": a["x"] + 1, "y": a["y"]}).repeat(3)
        first, second = data.batch(2).cohort([0]), data.batch(2).cohort([3, 2], round_number=4)
        assert len(first) == 1
        batched = data.batch(2)
        assert batched.cohort([0]).examples is batched.cohort([3, 2], 4).examples
        # Populations with other batches, or with fewer clients, share them too.
        assert first.examples is second.examples is data.batch(5).cohort([1]).examples
        assert data.take_clients(2).batch(3).cohort([1]).examples is first.examples
        assert batched.shuffle(0).cohort([0]).examples is not first.examples

    def test_mapping_happens_once_for_data_in_memory(self) -> None:
        seen: list[int] = []

        def fn(arrays: Any) -> Any:
            seen.append(len(arrays["y"]))
            return arrays

        data = MAKERS["arrays"]().map(fn).batch(2)
        for round_number in range(3):
            data.cohort([0, 1], round_number)
        assert len(seen) <= len(SIZES) + 1  # once more for the type

    def test_only_the_cohort_is_read_of_a_function(self) -> None:
        reader = Reader()
        data = ClientData.from_function(NAMES, reader).map(lambda a: a).shuffle(1).repeat(5).batch(2)
        repr(data)
        assert reader.read == []
        data.example_type  # noqa: B018
        reader.read.clear()
        data.cohort([2, 3], 7)
        assert reader.read == ["cy", "di"]

    def test_in_memory_reads_once(self) -> None:
        reader = Reader()
        data = ClientData.from_function(NAMES, reader).in_memory()
        assert reader.read == []
        for round_number in range(3):
            data.shuffle(1).batch(2).cohort([0, 3], round_number)
            data.batch(2).cohort([0, 3], round_number)
        assert sorted(reader.read) in (sorted(NAMES), sorted([*NAMES, "ann"]))

    @pytest.mark.slow
    def test_a_million_clients_are_not_gone_through(self) -> None:
        read: list[int] = []

        def one(client: int) -> Any:
            read.append(client)
            return {"x": np.full(client % 3 + 1, client)}

        data = ClientData.from_function(range(1_000_000), one).shuffle(1).batch(2)
        cohort = data.cohort([999_999, 5])
        assert cohort.client_ids.tolist() == [999_999, 5]
        assert set(read) <= {0, 5, 999_999}
        assert data.client(999_999)["x"].tolist() == [999_999]
        assert repr(data).startswith("ClientData(1000000 clients, examples not counted yet, shuffled, in batches of 2")
        train, test = data.split(0.1)
        assert (len(train), len(test)) == (900_000, 100_000)

    @pytest.mark.parametrize("mixed", [False, True])
    def test_arrays_on_disk_stay_there(self, tmp_path: Path, mixed: bool) -> None:
        on_disk = np.memmap(tmp_path / "x", np.float32, "w+", shape=X.shape)
        on_disk[:] = X
        owners = np.array([0, 1, 0] * 5) if mixed else np.repeat([0, 1], [10, 5])
        data = ClientData.from_arrays({"x": on_disk, "y": Y}, owners).batch(4)
        cohort = data.cohort([1])
        assert cohort.examples.on_disk == (not mixed)
        rows = np.flatnonzero(owners == 1)
        assert [batch.x.tolist() for batch in cohort[0]] == [X[rows[:4]].tolist(), X[rows[4:]].tolist()]
        mapped = data.map(lambda a: {"x": a["x"] * 2}).cohort([1])
        assert not mapped.examples.on_disk
        assert mapped.examples.size == 5


class TestNumbers:
    def test_clients_have_their_number_wherever_they_stand(self) -> None:
        expected = ["di", "ann"]
        data = ClientData.from_function(NAMES, arrays_of).filter_clients(min_examples=4)
        assert list(data.client_ids) == ["ann", "di"]
        for population in (data, data.in_memory(), data.shuffle(3), data.map(lambda a: a)):
            cohort = population.batch(2).cohort([1, 0])
            assert cohort.client_ids.tolist() == expected
            assert cohort.numbers.tolist() == numbers(expected).tolist()
        resident = MAKERS["arrays"]().filter_clients(min_examples=4).batch(2)
        assert resident.cohort([1, 0]).client_ids.tolist() == expected

    def test_a_client_is_shuffled_alike_in_a_part_of_the_population(self) -> None:
        whole = MAKERS["arrays"]().shuffle(3)
        equal(whole.filter_clients(lambda name: name == "di").client("di"), whole.client("di"))


def test_map_may_ask_whose_the_examples_are() -> None:
    data = MAKERS["arrays"]().map(lambda name, a: {"x": a["x"], "name": np.full(len(a["x"]), len(name))}, True)
    assert data.client("ann")["name"].tolist() == [3] * 5


def test_a_client_without_examples_has_no_batches() -> None:
    assert lists(MAKERS["function"]().shuffle(0).batch(2).cohort([1, 2]))[0] == []
    assert lists(MAKERS["arrays"]().batch(2).cohort([])) == []
    assert lists(MAKERS["function"]().batch(2).cohort([])) == []


def test_a_population_describes_itself() -> None:
    data = ClientData.from_arrays({"x": X, "y": Y}, OWNERS).shuffle(1).repeat(3).batch(4)
    assert repr(data) == (
        "ClientData(3 clients, 15 examples, 3 to 7 each, shuffled, 3 epochs, in batches of 4: "
        "<x=float32[?,2],y=int32[?]>)"
    )
    assert data.positions(["di", "ann"]).tolist() == [2, 0]


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "lengths": (
        lambda: ClientData.from_arrays({"x": X, "y": Y[:4]}, OWNERS),
        ValueError,
        "'x' has 15, 'y' has 4",
    ),
    "owners": (
        lambda: ClientData.from_arrays({"x": X}, OWNERS[:3]),
        ValueError,
        r"an array \[15\]; found one .* \[3\]",
    ),
    "fractional owners": (
        lambda: ClientData.from_arrays({"x": X}, np.full(15, 0.5)),
        TypeError,
        "client_of must hold integers or strings, the clients' ids; row 0 holds 0.5",
    ),
    "mixed owners": (lambda: ClientData.from_arrays({"x": X[:2]}, [1, "1"]), TypeError, "and not both"),
    "mixed populations": (
        lambda: ClientData.from_clients({"1": {"x": X}}).concatenate(ClientData.from_clients({1: {"x": X}})),
        TypeError,
        "the two populations together must hold .* and not both",
    ),
    "a number for a string": (
        lambda: ClientData.from_clients({"1": {"x": X}}).client(1),
        KeyError,
        "did you mean '1', a string",
    ),
    "a string for a number": (
        lambda: ClientData.from_function(range(3), arrays_of).client("2"),
        KeyError,
        "did you mean 2, an integer",
    ),
    "a bool for a number": (
        lambda: ClientData.from_function(range(3), arrays_of).client(True),
        KeyError,
        "no client True",
    ),
    "stray owner": (
        lambda: ClientData.from_arrays({"x": X}, OWNERS, client_ids=["ann"]),
        ValueError,
        "names the client 'cy', who is not in client_ids",
    ),
    "no dict": (lambda: ClientData.from_arrays(X, OWNERS), TypeError, r'such as \{"x": x, "y": y\}; found float32'),
    "text": (lambda: ClientData.from_clients({1: {"x": ["a"]}}), TypeError, "encode text"),
    "empty": (lambda: ClientData.from_clients({}), ValueError, "clients is empty"),
    "twice": (lambda: ClientData.from_function(["a", "b", "a"], arrays_of), ValueError, "names 'a' twice"),
    "no function": (lambda: ClientData.from_function(["a"], {}), TypeError, "read must be a function"),
    "other dtype": (
        lambda: ClientData.from_clients({"a": {"x": X}, "b": {"x": X.astype(np.float64)}}),
        TypeError,
        r"client 'b' has 'x' of type float64\[15,2\], .* \.astype\('float32'\)",
    ),
    "other names": (
        lambda: ClientData.from_function(["a", "b"], lambda c: {c: X}).batch(2).cohort([1]),
        TypeError,
        "client 'b' has the arrays 'b', but the first client has 'a'",
    ),
    "wrong sizes": (
        lambda: ClientData.from_function(["ann"], arrays_of, sizes=[4]).client("ann"),
        ValueError,
        r"has 5 rows, but sizes\[0\] says 4",
    ),
    "unknown client": (lambda: MAKERS["arrays"]().client("anne"), KeyError, "did you mean 'ann'"),
    "unknown number": (
        lambda: ClientData.from_function(range(10), arrays_of).client(10),
        KeyError,
        "the 10 clients are 0 to 9",
    ),
    "no batch": (lambda: MAKERS["arrays"]().cohort([0]), ValueError, r"data\.batch\(20\)\.cohort"),
    "same client": (lambda: MAKERS["arrays"]().batch(1).cohort([0, 2, 0]), ValueError, "position 0 twice"),
    "outside": (lambda: MAKERS["arrays"]().batch(1).cohort([4]), IndexError, "position 4, but there are 4 clients"),
    "names": (lambda: MAKERS["arrays"]().batch(1).cohort(["ann"]), TypeError, r"positions\(\[…\]\)"),
    "map of rows": (
        lambda: MAKERS["arrays"]().map(lambda a: {"x": a["x"][:1]}).client("ann"),
        ValueError,
        "client 'ann' has 1 rows, but it was given 5.*filter",
    ),
    "map of an array": (
        lambda: MAKERS["arrays"]().map(lambda a: a["x"]).client("ann"),
        TypeError,
        r"must be a dict of arrays .* found float32\[5,2\]",
    ),
    "mask": (
        lambda: MAKERS["arrays"]().filter(lambda a: a["x"] > 1).client("ann"),
        TypeError,
        r"a bool for each of the 5 examples of client 'ann', bool\[5\]; found bool\[5,2\]",
    ),
    "batch size": (lambda: MAKERS["arrays"]().batch(0), ValueError, "batch_size must be an integer of 1 or more"),
    "float batch": (lambda: MAKERS["arrays"]().batch(2.0), TypeError, "batch_size must be .* found the float 2.0"),
    "shuffled split": (
        lambda: MAKERS["arrays"]().shuffle(0).split(0.5, by="examples"),
        ValueError,
        "call split before shuffle",
    ),
    "fraction": (lambda: MAKERS["arrays"]().split(1.0), ValueError, "held_out must be a fraction, less than 1"),
    "nobody held out": (lambda: MAKERS["arrays"]().split(0.01), ValueError, "of 3 clients with examples is 0"),
    "nobody left": (lambda: MAKERS["arrays"]().filter_clients(min_examples=9), ValueError, "leaves none of the 4"),
    "kept shuffle": (lambda: MAKERS["arrays"]().shuffle(1).in_memory(), ValueError, "in_memory before shuffle"),
    "both": (lambda: MAKERS["arrays"]().concatenate(MAKERS["function"]()), ValueError, "is in both populations"),
    "other batches": (
        lambda: MAKERS["arrays"]().batch(2).concatenate(ClientData.from_clients({"z": arrays_of("ann")})),
        ValueError,
        "is in batches of 2, 1 epochs, the other not in batches, 1 epochs",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_are_told(case: str) -> None:
    run, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        run()


def test_an_error_of_a_users_function_says_for_which_client_it_ran() -> None:
    with pytest.raises(KeyError) as raised:
        MAKERS["arrays"]().map(lambda arrays: {"x": arrays["z"]}).client("cy")
    assert "of map" in raised.value.__notes__[0]
    assert "client 'cy'" in raised.value.__notes__[0]


def test_the_digits_of_each_client_are_its_own() -> None:
    digits = load_digits()
    data = ClientData.from_arrays({"x": digits.train_images, "y": digits.train_labels}, digits.train_labels)
    assert data.sizes.tolist() == np.bincount(digits.train_labels).tolist()
    np.testing.assert_array_equal(data.client(7)["x"], digits.train_images[digits.train_labels == 7])
