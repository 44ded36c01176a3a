"""Weights that no round changes: they are in no result, in one place of memory, in one file, and sent once."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import hansa
from hansa.compiler.partition import compile_computation
from hansa.learning import local_steps
from hansa.program import CheckpointError, load_checkpoint, train
from hansa.runtimes import replicas
from hansa.runtimes.inprocess.vectorise import clients_at_once
from hansa.runtimes.results import computed_parts
from tests.runtimes.inprocess.test_vectorise import Device

SIZE, RATE = 64, 0.1
RNG = np.random.default_rng(0)
BASE = {"kernel": RNG.normal(0, 0.1, (SIZE, SIZE)).astype(np.float32), "scale": np.float32(2)}
TRAINED = {"head": RNG.normal(0, 0.1, (SIZE, 2)).astype(np.float32), "masked": np.ones((SIZE, SIZE), np.float32)}
X = RNG.normal(size=(12, SIZE)).astype(np.float32)
Y = RNG.normal(size=(12, 2)).astype(np.float32)
CLIENTS = [hansa.Batches({"x": X[i : i + 4], "y": Y[i : i + 4]}, batch_size=4) for i in (0, 4, 8)]
HEAD = 4 * SIZE * 2


def loss(trained: Any, base: Any, x: Any, y: Any) -> Any:
    hidden = jnp.tanh(x @ base["kernel"] * base["scale"] @ trained["masked"])
    return jnp.mean((hidden @ trained["head"] - y) ** 2)


def forward(weights: Any, batch: Any, training: bool, rng: Any) -> Any:
    return hansa.learning.BatchOutput(loss(*weights, batch.x, batch.y)), weights[1]


def labels(weights: Any) -> Any:
    return hansa.Struct([(name, "frozen" if name == "masked" else "trained") for name in weights._fields])


OPTIMIZER = optax.multi_transform({"trained": optax.sgd(RATE), "frozen": optax.set_to_zero()}, labels)
MODEL = hansa.learning.functional_model(
    TRAINED,
    forward,
    input_spec=f"<x=float32[?,{SIZE}],y=float32[?,2]>",
    optimizer=OPTIMIZER,
    non_trainable=BASE,
    name="frozen",
)
PROCESS = hansa.learning.build_federated_averaging_process(MODEL)


def test_what_changes_is_trained_and_all_else_is_handed_on() -> None:
    first = PROCESS.initialize()
    state, _ = PROCESS.next(first, CLIENTS)
    gradient = np.mean(
        [np.asarray(jax.grad(loss)(TRAINED, BASE, X[i : i + 4], Y[i : i + 4])["head"]) for i in (0, 4, 8)], axis=0
    )
    np.testing.assert_allclose(state.model.trainable["head"], TRAINED["head"] - RATE * gradient, atol=1e-6)
    assert state.model.trainable["masked"] is first.model.trainable["masked"] is PROCESS.initialize().model.trainable[1]
    assert state.model.non_trainable["kernel"] is first.model.non_trainable["kernel"]
    assert state.model.non_trainable["scale"] == 2
    np.testing.assert_array_equal(state.model.non_trainable["kernel"], BASE["kernel"])
    computed = {str(node.type) for node in computed_parts(compile_computation(PROCESS.next))}
    assert not any(f"[{SIZE},{SIZE}]" in kind for kind in computed)


def test_no_step_on_a_batch_makes_a_weight_anew_that_it_does_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    def watched(data: Any, zero: Any, step: Any, **named: Any) -> Any:
        steps.append(step)
        return hansa.sequence_reduce(data, zero, step, **named)

    monkeypatch.setattr(local_steps, "sequence_reduce", watched)
    hansa.learning.build_federated_averaging_process(MODEL)
    (step,) = {id(step): step for step in steps}.values()
    traced = step.function.first_trace
    jaxpr = traced.jaxpr.jaxpr
    inputs = jaxpr.invars
    same = jax.tree.unflatten(traced.result, [variable in inputs for variable in jaxpr.outvars]).weights
    assert same.trainable["masked"]
    assert same.non_trainable["kernel"]
    assert not same.trainable["head"]


def test_it_is_said_what_is_sent_once() -> None:
    explained = hansa.explain(PROCESS)
    once = 2 * 4 * SIZE * SIZE + 4
    assert explained.bytes_once == once
    assert explained.bytes_down == once + HEAD + 8  # and a key
    assert HEAD < explained.bytes_up < HEAD + 100
    assert f"{once + HEAD + 8:,} bytes down in the first round, {HEAD + 8} bytes in each other" in str(explained)
    assert "in each other" in explained.svg()


def test_only_what_is_trained_counts_for_clients_at_once() -> None:
    device: Any = Device("cuda", 10 * 4 * 6 * (HEAD + 8))
    assert clients_at_once(compile_computation(PROCESS.next), device) == 10


def test_cpu_devices_share_its_memory_for_as_long_as_somebody_has_it() -> None:
    devices = jax.devices()[:2]
    if len(devices) < 2:
        pytest.skip("one device shares nothing")
    everywhere = NamedSharding(Mesh(np.array(devices), ("hansa_devices",)), PartitionSpec())
    array = jax.device_put(np.ones((300, 300), np.float32))
    whole = replicas.shared(array, everywhere)
    assert whole is not None
    assert {part.data.unsafe_buffer_pointer() for part in whole.addressable_shards} == {array.unsafe_buffer_pointer()}
    replicas.keep(array, whole)
    assert replicas.whole_of(array, everywhere) is whole
    gone, kept = weakref.ref(array), weakref.ref(whole)
    del array, whole
    gc.collect()
    assert gone() is None
    assert kept() is None


def test_a_run_writes_it_once_and_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    def run(rounds: int, folder: Path | None) -> Any:
        return train(PROCESS, lambda number: CLIENTS, rounds, run_dir=folder, progress=False).state

    whole = run(3, None)
    run(1, tmp_path)
    run(2, tmp_path)
    (path,) = (tmp_path / "checkpoints" / "constants").iterdir()
    begun = path.stat()
    state = run(3, tmp_path)
    assert all(map(np.array_equal, jax.tree.leaves(state), jax.tree.leaves(whole)))
    assert path.stat().st_mtime_ns == begun.st_mtime_ns
    assert begun.st_size > 2 * 4 * SIZE * SIZE
    assert max(found.stat().st_size for found in path.parents[1].glob("*.hansa")) < 4 * SIZE * SIZE
    found = load_checkpoint(tmp_path, PROCESS.state_type)
    assert all(map(np.array_equal, jax.tree.leaves(found.state), jax.tree.leaves(whole)))
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="another checksum"):
        load_checkpoint(tmp_path)


def test_a_run_that_goes_on_with_another_base_says_so_and_has_an_equal_one_in_memory_once(tmp_path: Path) -> None:
    def run(rounds: int, **options: Any) -> Any:
        return train(PROCESS, lambda number: CLIENTS, rounds, run_dir=tmp_path, progress=False, **options).state

    run(1)
    first = PROCESS.initialize()
    assert run(2).model.non_trainable["kernel"] is first.model.non_trainable["kernel"]
    other = first._replace(model=first.model._replace(non_trainable={**BASE, "kernel": BASE["kernel"] * 2}))
    with pytest.warns(UserWarning, match="goes on with its own values") as warned:
        state = run(3, initial_state=other)
    (told,) = (str(each.message) for each in warned)
    assert "state.model.non_trainable.kernel was float32[64, 64] " in told and "scale" not in told
    assert "name another folder" in told and "initial_state" in told
    np.testing.assert_array_equal(state.model.non_trainable["kernel"], BASE["kernel"])
    assert len(list((tmp_path / "checkpoints" / "constants").iterdir())) == 1


def test_a_saved_process_has_it_in_its_first_state_alone(tmp_path: Path) -> None:
    path = tmp_path / "process.hansa"
    hansa.save(PROCESS, path)
    assert path.read_bytes().count(BASE["kernel"].tobytes()) == 1
    loaded = hansa.load(path)
    state = loaded.initialize()
    assert all(map(np.array_equal, jax.tree.leaves(state), jax.tree.leaves(PROCESS.initialize())))
    assert hansa.explain(loaded).bytes_once == hansa.explain(PROCESS).bytes_once
    first, folder = state.model.non_trainable["kernel"], tmp_path / "run"
    assert loaded.next(state, CLIENTS).state.model.non_trainable["kernel"] is first
    train(loaded, lambda number: CLIENTS, 1, run_dir=folder, progress=False)
    (constants,) = (folder / "checkpoints" / "constants").iterdir()
    assert constants.stat().st_size > 2 * 4 * SIZE * SIZE


def test_what_a_user_puts_into_a_state_is_handed_on_as_it_was() -> None:
    kernel = BASE["kernel"] * 2
    state = PROCESS.initialize()
    model = state.model._replace(non_trainable={**BASE, "kernel": kernel})
    after, _ = PROCESS.next(state._replace(model=model), CLIENTS)
    kernel[:] = 0
    again, _ = PROCESS.next(after, CLIENTS)
    np.testing.assert_array_equal(after.model.non_trainable["kernel"], BASE["kernel"] * 2)
    assert again.model.non_trainable["kernel"] is after.model.non_trainable["kernel"]
