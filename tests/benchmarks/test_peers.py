"""The comparison with other frameworks, without them: tasks, workers, agreement, tables."""

import dataclasses
import json
import sys
import time

import keras
import numpy as np
import pytest
from benchmarks.peers import agreement, contest, keras_layers, tasks, worker
from benchmarks.peers.contest import Contest, Kind
from benchmarks.peers.protocol import Task, Unsupported, batches
from benchmarks.peers.run_hansa import Hansa
from benchmarks.peers.table import HEADER, Row, line, ratio
from benchmarks.peers.worker import Failed, Worker
from benchmarks.workloads import Workload, clients, mlp

from tests.benchmarks.softmax_peer import Softmax

SOFTMAX = "tests.benchmarks.softmax_peer"


@pytest.fixture
def task() -> Task:
    """Softmax regression on three clients, of 7, 1 and 4 examples; who takes part changes from round to round."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 5)).astype("float32"), rng.integers(0, 3, (12, 1)).astype("int32")
    return Task(
        name="regression",
        layers=[{"kind": "dense", "units": 3, "activation": None}],
        weights=[rng.normal(size=(5, 3)).astype("float32"), np.zeros(3, "float32")],
        x=x,
        y=y,
        offsets=np.array([0, 7, 8, 12]),
        test_x=x[:4],
        test_y=y[:4],
        cohorts=[[0, 2], [1, 2]],
        batch_size=3,
        learning_rate=0.1,
    )


@pytest.fixture(autouse=True)
def _peers_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("HANSA_PEERS_DIR", str(tmp_path / "peers"))


class TestTask:
    def test_is_the_same_after_saving_and_loading(self, task, tmp_path):
        many = dataclasses.replace(task, weights=[np.full(i, i, "float32") for i in range(12)])
        many.save(tmp_path)
        loaded = Task.load(tmp_path)
        for field in dataclasses.fields(Task):
            np.testing.assert_equal(getattr(loaded, field.name), getattr(many, field.name))
            assert type(getattr(loaded, field.name)) is type(getattr(many, field.name))
        assert loaded.x.dtype == np.float32 and loaded.y.dtype == np.int32

    def test_cohorts_are_used_in_turn(self, task):
        assert [task.cohort(number) for number in range(3)] == [[0, 2], [1, 2], [0, 2]]

    def test_joined_clients_are_one_after_another(self, task):
        x, y = task.joined(1)
        np.testing.assert_array_equal(x, task.x[7:])
        np.testing.assert_array_equal(y, task.y[7:])

    def test_the_last_batch_may_be_short(self, task):
        parts = list(batches(*task.client(0), 3))
        assert [len(x) for x, _ in parts] == [3, 3, 1]
        np.testing.assert_array_equal(np.concatenate([y for _, y in parts]), task.y[:7])


class TestTasks:
    def test_a_workload_becomes_a_task(self):
        x, y = np.zeros((9, 4), "float32"), np.zeros((9, 1), "int32")
        task = tasks.task_of(Workload("small", mlp([4, 3, 2]), clients(x, y, [5, 2], 4), 0.5, np.nan))
        assert task.layers == [
            {"kind": "dense", "units": 3, "activation": "relu"},
            {"kind": "dense", "units": 2, "activation": None},
        ]
        assert [weight.shape for weight in task.weights] == [(4, 3), (3,), (3, 2), (2,)]
        assert (task.batch_size, task.learning_rate, task.cohorts) == (4, 0.5, [[0, 1]])
        np.testing.assert_array_equal(task.offsets, [0, 5, 7])
        assert len(task.x) == 7 and task.test_x.shape == (0, 4)

    def test_described_models_are_built_again(self):
        layers = keras.layers
        images = [
            layers.Conv2D(2, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(3),
        ]
        text = [layers.Embedding(7, 2), layers.LSTM(4, return_sequences=True), layers.Dense(7)]
        for made, shape, dtype in ((images, (4, 4, 1), "float32"), (text, (5,), "int32")):
            model = keras.Sequential([keras.Input(shape, dtype=dtype), *made])
            description = [tasks.described(layer) for layer in model.layers]
            again = keras_layers.build(keras, json.loads(json.dumps(description)), shape, dtype)
            again.set_weights(model.get_weights())
            x = np.random.default_rng(0).integers(0, 7, (2, *shape)).astype(dtype)
            np.testing.assert_allclose(again(x), model(x), rtol=1e-5, atol=1e-6)

    def test_other_layers_are_refused(self):
        with pytest.raises(ValueError, match="GRU"):
            tasks.described(keras.layers.GRU(3))

    def test_speakers_are_sorted_by_what_they_say(self, tmp_path):
        play = tmp_path / "input.txt"
        play.write_text("First:\nAy.\n\nSecond:\nNay, my lord.\n\nFirst:\nO.\n")
        assert tasks.speeches(play) == ["Nay, my lord.", "Ay.\nO.\n"]

    def test_sequences_are_followed_by_one_character(self):
        text = "ab" * 85  # two sequences and ten characters
        x, y = tasks.sequences(text, {"a": 0, "b": 1})
        assert x.shape == y.shape == (2, 80) and x.dtype == np.int32
        np.testing.assert_array_equal(y, 1 - x)
        assert len(tasks.sequences("a" * 80, {"a": 0})[0]) == 0
        assert len(tasks.sequences("a" * 81, {"a": 0})[0]) == 1


class TestAgreement:
    def test_differences_are_relative(self):
        assert agreement.loss_difference(2.02, 2.0) == pytest.approx(0.01)
        assert agreement.loss_difference(0.002, 0.001) == pytest.approx(0.01)  # to 0.1: both have learned it all
        initial, expected = [np.zeros(2), np.zeros(1)], [np.array([3.0, 0]), np.array([4.0])]
        found = [np.array([3.0, 0.5]), np.array([4.0])]
        assert agreement.model_difference(found, expected, initial) == pytest.approx(0.1)

    def test_models_of_other_shapes_are_not_compared(self):
        with pytest.raises(ValueError, match="shapes"):
            agreement.model_difference([np.zeros(2)], [np.zeros(3)], [np.ones(3)])

    @pytest.mark.parametrize(
        ("when", "of", "difference", "agrees"),
        [
            ("first", "loss", 1e-4, True),
            ("first", "loss", 5e-3, False),
            ("first", "model", 5e-3, False),
            ("later", "model", 1e-2, True),
            ("later", "model", 1e-1, False),
            ("later", "loss", float("nan"), False),
        ],
    )
    def test_later_rounds_may_differ_more_and_nan_never_agrees(self, when, of, difference, agrees):
        row = Row("work", "peer")
        row.note(of, difference, when)
        assert row.agrees is agrees

    @pytest.mark.parametrize(
        ("layers", "largest"),
        [
            ([{"kind": "dense", "activation": None}], 1e-3),
            ([{"kind": "dense", "activation": "relu"}, {"kind": "lstm"}], 1e-2),
            ([{"kind": "conv", "activation": "relu"}, {"kind": "pool", "size": 2}], 1e-1),
        ],
    )
    def test_models_in_which_rounding_decides_may_differ_more_and_their_losses_may_not(self, layers, largest):
        limits = agreement.model_limits(layers)
        for difference, agrees in ((0.9 * largest, True), (1.1 * largest, False)):
            row = Row("work", "peer", model_limits=limits)
            row.note("model", difference, "first")
            assert row.agrees is agrees
        row = Row("work", "peer", model_limits=limits)
        row.note("loss", 2e-3, "first")
        assert not row.agrees


class TestTable:
    def test_rows_keep_the_largest_difference(self):
        row = Row("work", "peer")
        for difference in (1e-5, 1e-4, 1e-6):
            row.note("loss", difference, "first")
        assert row.loss_difference == 1e-4 and row.agrees
        row.note("model", float("nan"), "later")
        assert not row.agrees and np.isnan(row.model_difference)

    def test_ratios_are_those_of_pairs(self):
        assert ratio([2.0, 30.0, 3.0], [1.0, 10.0, 3.0]) == 2.0
        assert ratio([], [1.0]) is None

    def test_columns_stand_below_their_names(self):
        hansa = Row("work", "hansa", first=10.0, rounds=[0.5, 0.5, 2.0], memory=100.0)
        peer = Row("work", "peer", first=5.0, rounds=[1.0, 1.0, 2.0], memory=50.0, evaluations=[9.0, 0.25, 0.25])
        peer.note("loss", 1e-7, "first")
        peer.note("model", 0.5, "first")
        for row in (hansa, peer):
            assert len(line(row, hansa).removesuffix(" DIFFERS FROM HANSA")) == len(HEADER)
        assert line(peer, hansa).split() == [
            *("peer", "1.0000", "2.00x", "5.00", "0.50x", "0.250", "50", "1e-07", "5e-01"),
            *("DIFFERS", "FROM", "HANSA"),
        ]

    def test_a_peer_without_rounds_has_its_reason(self):
        hansa = Row("work", "hansa", first=10.0, rounds=[0.5])
        assert line(Row("work", "peer", reason="no wheel"), hansa).split() == ["peer", "no", "wheel"]


class TestWorker:
    @pytest.fixture
    def start(self, task, tmp_path):
        task.save(tmp_path)
        started = []

        def start(fault="", timeout=60.0):
            command = [sys.executable, "-m", SOFTMAX, str(tmp_path), fault]
            started.append(Worker(command, tmp_path / "log", {"PYTHONPATH": ""}, timeout))
            return started[-1]

        yield start
        for one in started:
            one.close()

    def test_answers_and_memory(self, start):
        one = start("prints")
        loss, took = one.round(0)
        assert 0 < loss < 10 and took > 0
        assert one.evaluate()[0] > 0
        memory = one.peak_memory()
        assert memory is None or 5 < memory < 5000

    def test_a_peer_may_decline(self, start):
        with pytest.raises(Unsupported, match="it is too much"):
            start("unsupported").round(0)

    def test_errors_say_what_the_peer_said(self, start):
        for fault, message in (("fails", "ValueError: a bad round"), ("dies", "stopped: out of memory, say")):
            one = start(fault)
            one.round(0)
            with pytest.raises(Failed, match=message):
                one.round(1)
            with pytest.raises(Failed):
                one.round(2)

    def test_one_that_does_not_answer_is_ended(self, start):
        one = start("sleeps", timeout=60.0)
        one.round(0)
        one._timeout = 1.0
        began = time.perf_counter()
        with pytest.raises(Failed, match="no answer within 1 s"):
            one.round(1)
        assert time.perf_counter() - began < 50

    def test_family_is_the_process_and_its_descendants(self, start, monkeypatch, tmp_path):
        parents = {1: 0, 2: 1, 3: 1, 4: 3, 5: 0}
        monkeypatch.setattr(worker, "_status", lambda pid: {"PPid": parents[pid]} if pid in parents else {})
        proc = tmp_path / "proc"
        for pid in [*parents, "self"]:
            (proc / str(pid)).mkdir(parents=True)
        monkeypatch.setattr(worker, "PROCESSES", proc)
        assert sorted(worker.family(1)) == [1, 2, 3, 4]


def test_contests_tell_who_agrees(task, tmp_path):
    peers = {
        "same": Kind(SOFTMAX),
        "central": Kind(SOFTMAX, options=("joined",), joined=True),
        "wrong": Kind(SOFTMAX, options=("wrong",)),
        "central, wrong": Kind(SOFTMAX, options=("",), joined=True),
        "fails": Kind(SOFTMAX, options=("fails",)),
        "unsupported": Kind(SOFTMAX, options=("unsupported",)),
        "not installed": Kind(SOFTMAX, "no such environment"),
    }
    reference = Kind(SOFTMAX, options=("",))
    with Contest(task, tmp_path, 60.0, reference, peers["central"]) as race:
        for name, kind in peers.items():
            race.start(name, kind)
        for number in range(1, contest.WARM_UP_ROUNDS + 2):
            race.round(number)
        race.finish()
    rows = {row.peer: row for row in race.rows}
    assert list(rows) == ["hansa", *peers]
    assert {name for name, row in rows.items() if not row.agrees} == {"wrong", "central, wrong"}
    assert {name for name, row in rows.items() if row.reason} == {"fails", "unsupported", "not installed"}
    assert rows["same"].loss_difference == rows["same"].model_difference == 0
    assert rows["central"].loss_difference == rows["central"].model_difference == 0
    assert len(rows["same"].rounds) == 2 and len(rows["same"].evaluations) == 1 + contest.EVALUATIONS
    assert rows["fails"].rounds == [] and "a bad round" in rows["fails"].reason


def test_hansa_agrees_with_numpy(task):
    for form in ("clients", "joined"):
        hansa, oracle = Hansa(task, form), Softmax(task, form)
        for number in range(2):
            assert hansa.round(number) == pytest.approx(oracle.round(number), rel=1e-5)
        assert hansa.evaluate() == pytest.approx(oracle.evaluate(), rel=1e-5)
        assert agreement.model_difference(hansa.weights(), oracle.weights(), task.weights) < 1e-4
