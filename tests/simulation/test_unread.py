"""Cohorts that another process reads have the examples that this process would have read, to the bit."""

from __future__ import annotations

import json
import lzma
import shutil
import sqlite3
import threading

import numpy as np
import pytest

import hansa
from hansa.runtimes.ray import wire
from hansa.runtimes.ray.populations import Populations
from hansa.simulation import ClientData, _unread
from hansa.types.unread import Unread

SIZES = [5, 0, 12, 3, 1]
OWNERS = np.repeat(np.arange(5), SIZES)[np.random.default_rng(0).permutation(21)]
ARRAYS = {"x": np.arange(63, dtype=np.float32).reshape(21, 3), "y": np.arange(21, dtype=np.int32)}


class ReadsElsewhere:
    """A runtime whose workers read."""

    reads_examples = True

    def invoke(self, computation, argument):
        raise NotImplementedError


def in_arrays(folder):
    return ClientData.from_arrays(ARRAYS, OWNERS, client_ids=range(5))


def in_memmaps(folder):
    for name, array in ARRAYS.items():
        np.save(folder / f"{name}.npy", array)
    mapped = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    return ClientData.from_arrays(mapped, OWNERS, client_ids=range(5))


def in_parquet(folder):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    columns = {"a": ARRAYS["x"][:, 0], "b": ARRAYS["x"][:, 1], "y": ARRAYS["y"], "owner": OWNERS}
    pd.DataFrame(columns).to_parquet(folder / "rows.parquet", row_group_size=4)
    chosen = {"x": ["a", "b"], "y": "y"}
    return hansa.simulation.from_parquet(folder / "rows.parquet", "owner", chosen, {"x": "float32"})


def in_folders(folder):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(1)
    for client in ("ann", "bo", "cy"):
        for label in ("cat", "dog"):
            (folder / "images" / client / label).mkdir(parents=True)
            for i in range(2):
                pixels = rng.integers(0, 255, (4, 5, 3), np.uint8)
                image.fromarray(pixels).save(folder / "images" / client / label / f"{i}.png")
    return hansa.simulation.from_folder(folder / "images", image_size=(4, 4), scale=True)


def in_csv(folder):
    columns = {"a": ARRAYS["x"][:, 0], "b": ARRAYS["x"][:, 1], "y": ARRAYS["y"], "owner": OWNERS}
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    (folder / "rows.csv").write_text("\n".join(lines))
    chosen = {"x": ["a", "b"], "y": "y"}
    return hansa.simulation.from_csv(folder / "rows.csv", "owner", chosen, {"x": "float32"})


def in_hdf5(folder):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "rows.h5", "w") as file:
        for client in range(5):
            for name, array in ARRAYS.items():
                file[f"examples/client {client}/{name}"] = array[client == OWNERS]
    return hansa.simulation.from_tff_hdf5(folder / "rows.h5", convert={"y": "int64"})


def field(number, content):
    """A field of a protocol buffer."""
    return bytes([number << 3 | 2, len(content)]) + content


def in_sqlite(folder):
    with sqlite3.connect(folder / "rows.sqlite") as database:
        database.execute("CREATE TABLE examples (split_name TEXT, client_id TEXT, serialized_example_proto BLOB)")
        database.execute("CREATE TABLE client_metadata (client_id TEXT, split_name TEXT, num_examples INTEGER)")
        rows = [(f"client {i}", "train", n) for i, n in enumerate(SIZES)]
        database.executemany("INSERT INTO client_metadata VALUES (?, ?, ?)", rows)
        for owner, x, y in zip(OWNERS, ARRAYS["x"], ARRAYS["y"], strict=True):
            values = {"x": (2, field(1, x.tobytes())), "y": (3, field(1, bytes([y])))}
            features = b"".join(field(1, field(1, k.encode()) + field(2, field(*v))) for k, v in values.items())
            row = ("train", f"client {owner}", field(1, features))
            database.execute("INSERT INTO examples VALUES (?, ?, ?)", row)
    database.close()
    return hansa.simulation.from_tff_sqlite(folder / "rows.sqlite", convert={"y": "int32"})


def elsewhere(cohort, positions):
    """The batches as a worker has them, which is told of the cohort and of the populations that it names."""
    assert isinstance(cohort.examples, Unread)
    worker, names = Populations(), {}

    def called(examples):
        name = names.setdefault(id(examples), f"population {len(names)}")
        worker._known[name] = examples
        return name

    form, told = wire.unread(cohort.select(positions), called)
    assert "rows" not in vars(cohort.examples)  # which have not been read here
    return wire.column(cohort.type_signature, (form, told), worker.examples, lambda found: found)


STEPS = {
    "as it is": lambda data: data,
    "shuffled": lambda data: data.shuffle(seed=3).repeat(2),
    "scaled, some": lambda data: data.scale("x", divide=7).take(4).shuffle(seed=1),
    "filtered": lambda data: data.in_memory().filter(lambda arrays: arrays["y"] % 2 == 0).shuffle(seed=2),
    "chosen": lambda data: data.take_clients(3).shuffle(seed=2),
}


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("made", [in_arrays, in_memmaps, in_parquet, in_folders, in_csv, in_hdf5, in_sqlite])
def test_a_cohort_is_read_elsewhere_as_here(made, steps, tmp_path):
    data = STEPS[steps](made(tmp_path)).batch(4)
    clients = np.random.default_rng(4).permutation(len(data))
    here = data.cohort(clients, 7)
    with hansa.runtime(ReadsElsewhere()):
        cohort = data.cohort(clients, 7)
    assert cohort.capacity == here.capacity and np.array_equal(cohort.numbers, here.numbers)
    if steps == "as it is" and made is in_arrays:
        assert cohort.examples is here.examples  # which workers keep, as it is the same in each round
        return
    positions = np.array([2, 0, 1])
    found, expected = elsewhere(cohort, positions), here.select(positions)
    assert found.capacity == expected.capacity and list(found.client_ids) == list(expected.client_ids)
    for mine, other in zip(found, expected, strict=True):
        assert len(mine) == len(other)
        for one, two in zip(mine, other, strict=True):
            assert all(np.array_equal(one[name], two[name]) for name in ("x", "y"))
            assert one.x.dtype == two.x.dtype
    assert np.array_equal(cohort.examples.rows.x, here.examples.rows.x)  # this process can read it, too


def test_copies_of_a_client_have_their_own_orders_elsewhere():
    data = in_arrays(None).shuffle(seed=5).batch(4)
    with hansa.runtime(ReadsElsewhere()):
        cohort = data.cohort([2, 0, 2], 1, replace=True)
    here = data.cohort([2, 0, 2], 1, replace=True)
    (second,) = elsewhere(cohort, np.array([2]))
    assert np.array_equal(np.concatenate([batch.y for batch in second]), np.concatenate([b.y for b in here[2]]))
    assert not np.array_equal(next(iter(second)).y, next(iter(here[0])).y)


def test_a_function_of_the_users_is_called_here_once_where_what_it_makes_is_kept_and_in_each_round_where_not(tmp_path):
    called = []

    def double(arrays):
        called.append(threading.get_ident())
        return {**arrays, "x": 2 * arrays["x"]}

    kept = in_arrays(tmp_path).map(double).shuffle(seed=1).batch(4)
    with hansa.runtime(ReadsElsewhere()):
        cohorts = [kept.cohort([0, 2], number) for number in (1, 2)]
    assert all(isinstance(cohort.examples, Unread) for cohort in cohorts) and len(called) == 5
    read = in_memmaps(tmp_path).map(double).shuffle(seed=1).batch(4)
    with hansa.runtime(ReadsElsewhere()):
        cohort = read.cohort([0, 2], 1)
    assert not isinstance(cohort.examples, Unread)
    assert cohort.examples.why_here.startswith("map calls '") and "double" in cohort.examples.why_here


def test_a_file_that_is_another_one_elsewhere_is_refused(tmp_path):
    data = in_parquet(tmp_path).batch(4)
    with hansa.runtime(ReadsElsewhere()):
        cohort = data.cohort([0], 0)
    _, told = wire.unread(cohort, lambda examples: "")
    (origin,) = told["examples"]["origins"]
    assert json.loads(json.dumps(origin))["reader"] == "parquet"
    (tmp_path / "rows.parquet").write_bytes(b"other")
    with pytest.raises(ValueError, match="is another file at this worker than at the driver"):
        _unread.read(told["examples"], {}.__getitem__)


def told_of(data):
    """What a worker is told of a client's data."""
    with hansa.runtime(ReadsElsewhere()):
        cohort = data.batch(4).cohort([2], 0)
    return cohort, wire.unread(cohort, lambda examples: "")[1]["examples"]


def read_anew(told):
    """As in a process that has not opened the files yet."""
    _unread._of_files.cache_clear()
    return _unread.read(told, {}.__getitem__)


def in_lzma(folder):
    in_sqlite(folder)
    (folder / "rows.sqlite.lzma").write_bytes(lzma.compress((folder / "rows.sqlite").read_bytes(), lzma.FORMAT_ALONE))
    return hansa.simulation.from_tff_sqlite(folder / "rows.sqlite.lzma")


@pytest.mark.parametrize(("made", "name"), [(in_csv, "rows.csv"), (in_lzma, "rows.sqlite.lzma")])
def test_what_is_kept_in_the_cache_is_made_where_it_is_not_yet(made, name, tmp_path, monkeypatch):
    monkeypatch.setenv("HANSA_CACHE_DIR", str(tmp_path / "first"))
    data = made(tmp_path)
    cohort, told = told_of(data)
    expected = data.client(cohort.client_ids[0])["y"].tolist()
    shutil.rmtree(tmp_path / "first")
    monkeypatch.setenv("HANSA_CACHE_DIR", str(tmp_path / "second"))
    found = read_anew(told)
    assert any((tmp_path / "second").rglob("*.*"))
    assert found["y"].tolist() == expected != []
    shutil.rmtree(tmp_path / "second")
    content = (tmp_path / name).read_bytes()
    if made is in_csv:
        (tmp_path / name).write_bytes(content.replace(b"20,", b"21,"))
        with pytest.raises(ValueError, match="is another file at this worker than at the driver"):
            read_anew(told)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match="which this worker does not have; keep it in a folder that all nodes have"):
        read_anew(told)


def test_a_function_that_converts_what_a_file_holds_is_called_here(tmp_path):
    in_csv(tmp_path)
    data = hansa.simulation.from_csv(tmp_path / "rows.csv", "owner", ["y"], {"y": lambda values: values * 2})
    with hansa.runtime(ReadsElsewhere()):
        cohort = data.batch(4).cohort([0], 0)
    assert not isinstance(cohort.examples, Unread)
