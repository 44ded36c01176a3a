"""Client stages that are compiled ahead of their work, and that take and give values by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa.language import context

BATCH = "<x=float32[?,3],y=int32[?]>"


@hansa.jax_computation("<n=int32,s=float32[3]>", BATCH)
def fold(state, batch):
    return {"n": state.n + batch.x.shape[0], "s": state.s + batch.y @ batch.x}


@hansa.federated_computation("{" + BATCH + "*}@CLIENTS", "<scale=float32,shift=float32[3]>@SERVER", "{float32}@CLIENTS")
def products(data, sent, weight):
    sent = hansa.federated_broadcast(sent)
    done = hansa.sequence_reduce(data, {"n": 0, "s": np.zeros(3, np.float32)}, fold)
    moved = hansa.federated_map(
        hansa.jax_computation(lambda done, sent: done.s * sent.scale + sent.shift), [done, sent]
    )
    return hansa.federated_mean(moved, weight), hansa.federated_sum(done.n)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared") / "products.hansa"
    hansa.save(products, path, platforms=["cpu"])
    return path


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where stages work: one of this test alone."""
    found = hansa.InProcessRuntime()
    monkeypatch.setattr(context, "_default", [lambda: found])


@pytest.fixture
def stage(saved: Path) -> Any:
    return hansa.load_client_stage(saved)


def batches(sizes: list[int], seed: int = 0) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(size=(n, 3)).astype("float32"), "y": rng.integers(0, 5, n).astype("int32")} for n in sizes]


SENT = {"sent": hansa.Struct.of(scale=np.float32(2), shift=np.array([1, 0, -1], np.float32))}


def compilations() -> int:
    return context.default_runtime().compilations


def assert_right(stage: Any, done: Any, data: list[Any], weight: float) -> None:
    named = stage.named(done)
    assert set(named) == {port.name for part in stage.contributions for port in part.values}
    (mean, weights), (count,) = ([named[port.name] for port in part.values] for part in stage.contributions)
    total = sum((batch["y"] @ batch["x"].astype(np.float64) for batch in data), np.zeros(3))
    expected = 2 * total + [1, 0, -1]
    np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-4)
    assert (weights, count) == (weight, sum(len(batch["y"]) for batch in data))


class TestPrepare:
    @pytest.mark.parametrize(
        "shapes",
        [
            batches([8, 8, 3]),
            [{"x": jax.ShapeDtypeStruct((8, 3), "float32"), "y": jax.ShapeDtypeStruct((8,), "int32")}] * 3,
            {"data": batches([8, 8, 8], seed=7), "weight": 1.0},
        ],
        ids=["a list of batches", "shapes", "by name"],
    )
    def test_work_does_not_compile_after_it(self, stage, shapes):
        stage.prepare(shapes)
        assert compilations() == 1
        for seed, sizes in enumerate([[8, 8, 3], [8, 8, 8], [8], [], [5, 8]]):
            data = batches(sizes, seed)
            assert_right(stage, stage.work(SENT, {"weight": 0.5, "data": data}), data, 0.5)
        assert compilations() == 1

    def test_batches_are_prepared_for(self, stage):
        arrays = {name: np.concatenate([batch[name] for batch in batches([8, 8, 3])]) for name in ("x", "y")}
        stage.prepare(hansa.Batches(arrays, batch_size=8))
        data = hansa.Batches(arrays, batch_size=8)
        assert_right(stage, stage.work(SENT, {"weight": 2.0, "data": data}), list(data), 2.0)
        assert compilations() == 1

    def test_values_on_devices_are_values_too(self, stage):
        data = batches([4, 4])
        stage.prepare(data)
        sent = jax.tree.map(jnp.asarray, SENT["sent"])
        assert_right(stage, stage.work({"sent": sent}, {"weight": jnp.float32(0.5), "data": data}), data, 0.5)
        assert compilations() == 1

    def test_no_batch_is_worked_on(self, tmp_path):
        def endless(total, batch):
            return jax.lax.while_loop(lambda x: x < batch.sum(), lambda x: x * 1.0, total)

        @hansa.federated_computation("{float32[?]*}@CLIENTS")
        def never(data):
            return hansa.federated_sum(
                hansa.sequence_reduce(data, 0.0, hansa.jax_computation(endless, "float32", "float32[?]"))
            )

        hansa.save(never, tmp_path / "never.hansa", platforms=["cpu"])
        stage = hansa.load_client_stage(tmp_path / "never.hansa")
        stage.prepare([np.ones(4, np.float32)] * 3)
        assert stage.work([], [[-np.ones(4, np.float32)]]).contributions[0][0] == 0

    def test_the_same_bits_with_and_without(self, saved):
        found = []
        for is_prepared in (False, True):
            stage = hansa.load_client_stage(saved)
            if is_prepared:
                stage.prepare(batches([8, 8, 2], seed=3))
            found.append(stage.work(SENT, {"data": batches([8, 8, 2]), "weight": 1.0}))
        for a, b in zip(*map(jax.tree.leaves, found), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_a_stage_without_sequences_and_open_sizes(self, tmp_path):
        @hansa.federated_computation("{float32[?]}@CLIENTS", "float32[?]@SERVER")
        def far(own, sent):
            away = hansa.jax_computation(lambda own, sent: own.sum() - sent.sum())
            return hansa.federated_sum(hansa.federated_map(away, [own, hansa.federated_broadcast(sent)]))

        hansa.save(far, tmp_path / "far.hansa", platforms=["cpu"])
        stage = hansa.load_client_stage(tmp_path / "far.hansa")
        with pytest.raises(ValueError, match=r"sizes of 'sent', of type float32\[\?\], .* give a value for it"):
            stage.prepare({"own": np.zeros(3)})
        with pytest.raises(TypeError, match=r"has 0 inputs that are sequences.*in a dict by name"):
            stage.prepare([np.zeros(3)])
        shape = jax.ShapeDtypeStruct((3,), np.float32)
        stage.prepare({"own": shape}, broadcasts={"sent": np.zeros(2, np.float32)})
        done = stage.work([np.ones(2, np.float32)], [np.ones(3, np.float32)])
        assert done.contributions[0][0] == 1.0
        assert compilations() == 1

    def test_a_name_that_there_is_not_and_a_value_of_another_type(self, stage):
        with pytest.raises(TypeError, match=r"has no input 'date': its inputs are .*'data'"):
            stage.prepare({"date": []})
        with pytest.raises(TypeError, match="float32"):
            stage.prepare([{"x": np.ones((2, 3)), "y": np.ones(2, np.int32)}])

    def test_it_works_whatever_runtime_is_set_for_other_computations(self, stage):
        class Elsewhere:
            def invoke(self, computation, argument):
                raise AssertionError("a stage works where it is")

        with hansa.runtime(Elsewhere()):
            stage.prepare(batches([4]))
            data = batches([4])
            assert_right(stage, stage.work(SENT, {"data": data, "weight": 1.0}), data, 1.0)
        assert compilations() == 1


class TestNames:
    def test_by_name_in_any_order_among_others_and_by_position(self, stage):
        data, sent = batches([3, 2]), list(SENT.values())
        own: dict[str, Any] = {"weight": 0.25, "other": "text", "data": data}
        in_order = [own[port.name] for port in stage.inputs]
        for given in (own, in_order, tuple(in_order), hansa.Struct(in_order_named(stage, own))):
            assert_right(stage, stage.work(sent, given), data, 0.25)

    def test_what_is_missing_is_named(self, stage):
        with pytest.raises(TypeError, match=r"values of .* must have a value 'weight' of type float32"):
            stage.work(SENT, {"data": []})
        with pytest.raises(TypeError, match=r"the broadcasts of .* must be a dict or a struct of 'sent'"):
            stage.work([], {"data": [], "weight": 1.0})
        with pytest.raises(TypeError, match="must be a dict or a struct of"):
            stage.work(SENT, 3)


def in_order_named(stage: Any, own: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(port.name, own[port.name]) for port in reversed(stage.inputs)]
