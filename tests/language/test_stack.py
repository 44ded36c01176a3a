"""`federated_stack`: the clients' values in arrays with a row for each, for rules that have to see each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hansa

KIND = "<update=<kernel=float32[3,2],bias=float32[3]>,loss=float32>"
rng = np.random.default_rng(0)


def clients(number: int) -> list[Any]:
    return [
        {
            "update": {
                "kernel": rng.normal(size=(3, 2)).astype("float32"),
                "bias": np.float32([i, -i, 7]),
            },
            "loss": np.float32(rng.normal()),
        }
        for i in range(number)
    ]


def of(values: list[Any], *path: str) -> np.ndarray:
    found = values
    for name in path:
        found = [value[name] for value in found]
    return np.array(found, np.float64)


@hansa.jax_computation
def summary(values: Any) -> Any:
    """The median and the trimmed mean of each coordinate (Yin et al. 2018, options I and II), and of whom the loss is
    the second least."""
    kernel = values.update.kernel
    number = kernel.shape[0]
    cut = number // 5
    rank = jnp.arange(number)[:, None, None]
    kept = (rank >= cut) & (rank < number - cut)
    trimmed = jnp.where(kept, jnp.sort(kernel, 0), 0).sum(0) / (number - 2 * cut)
    median = jax.tree.map(lambda leaf: jnp.median(leaf, 0), values.update)
    return {"median": median, "trimmed": trimmed, "second": jnp.argsort(values.loss)[1]}


@hansa.federated_computation(f"{{{KIND}}}@CLIENTS")
def robust(values):
    return hansa.federated_map(summary, hansa.federated_stack(values))


def check(found: Any, values: list[Any]) -> None:
    kernel, cut = np.sort(of(values, "update", "kernel"), 0), len(values) // 5
    np.testing.assert_allclose(found.trimmed, kernel[cut : len(values) - cut].mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.median.kernel, np.median(kernel, 0), rtol=1e-6)
    np.testing.assert_allclose(found.median.bias, np.median(of(values, "update", "bias"), 0), rtol=1e-6)
    assert int(found.second) == np.argsort(of(values, "loss"), kind="stable")[1]


def test_median_and_trimmed_mean_are_those_of_numpy_with_the_same_bits_wherever_clients_are() -> None:
    devices = jax.devices()
    alone, apart = hansa.InProcessRuntime(devices[:1]), hansa.InProcessRuntime(devices[:2])
    chunks = hansa.InProcessRuntime(devices[:1], clients_per_chunk=3)
    for number in (7, 5):
        values, results = clients(number), []
        for runtime in (alone, apart, chunks):
            with hansa.runtime(runtime):
                results.append(robust(values))
            check(results[-1], values)
        for other in results[1:]:
            jax.tree.map(np.testing.assert_array_equal, other, results[0])
    assert alone.compilations == 1  # for both numbers of clients


def test_the_reference_runtime_says_the_same() -> None:
    values = clients(6)
    with hansa.runtime(hansa.ReferenceRuntime()):
        check(robust(values), values)


def test_rows_are_the_clients_in_their_order_and_as_many() -> None:
    @hansa.federated_computation("{float32[2]}@CLIENTS")
    def differences(values):
        rows = hansa.federated_stack(values)
        assert rows.type_signature.compact() == "float32[?,2]@SERVER"
        doubled = hansa.federated_map(hansa.jax_computation(lambda rows: rows[::-1] * 2), rows)
        distance = hansa.jax_computation(lambda rows, own: jnp.abs(rows - own).sum())
        return rows, doubled, hansa.federated_map(distance, [hansa.federated_broadcast(rows), values])

    for number in (3, 0):
        values = np.arange(2 * number, dtype="float32").reshape(number, 2)
        rows, doubled, distances = differences(list(values))
        np.testing.assert_array_equal(rows, values)
        np.testing.assert_array_equal(doubled, values[::-1] * 2)
        assert [float(distance) for distance in distances] == [12, 8, 12][:number]


def test_the_largest_of_many_are_found_by_one_program_for_several_numbers() -> None:
    best = hansa.jax_computation(lambda losses: jax.lax.top_k(losses, 3))
    computation = hansa.federated_computation(
        lambda losses: hansa.federated_map(best, hansa.federated_stack(losses)), "{float32}@CLIENTS"
    )
    with hansa.runtime(hansa.InProcessRuntime(jax.devices()[:2])) as runtime:
        for number in (40, 37):
            losses = rng.normal(size=number).astype("float32")
            values, places = computation(list(losses))
            np.testing.assert_array_equal(places, np.argsort(-losses)[:3])
            np.testing.assert_array_equal(values, np.sort(losses)[::-1][:3])
        assert runtime.compilations == 1
        # Of so few there may be less than three, so that each number has a program.
        np.testing.assert_array_equal(computation([1.0, 3.0, 2.0])[1], [1, 2, 0])
        with pytest.raises(ValueError, match="top_k"):
            computation([1.0, 2.0])


@hansa.jax_computation
def krum(values: Any) -> Any:
    """Blanchard et al. 2017, with one Byzantine client: all pairs of clients, for which there is no rule."""
    apart = ((values[:, None] - values[None]) ** 2).sum(2)
    scores = jnp.sort(apart, 1)[:, 1 : values.shape[0] - 2].sum(1)
    return values[jnp.argmin(scores)]


@hansa.federated_computation("{float32[4]}@CLIENTS")
def chosen(values):
    return hansa.federated_map(krum, hansa.federated_stack(values))


@pytest.mark.parametrize("per_chunk", [None, 2])
def test_what_has_no_rule_is_compiled_for_each_number_of_clients(per_chunk: int | None) -> None:
    with hansa.runtime(hansa.InProcessRuntime(jax.devices()[:2], clients_per_chunk=per_chunk)):
        for number in (5, 6):
            values = rng.normal(size=(number, 4)).astype("float32")
            apart = np.sort(((values[:, None] - values[None]) ** 2).sum(2), 1)
            expected = values[np.argmin(apart[:, 1 : number - 2].sum(1))]
            np.testing.assert_array_equal(chosen(list(values)), expected)


def test_a_file_has_it_and_stages_by_themselves(tmp_path: Path) -> None:
    hansa.save(robust, tmp_path / "robust.hansa", platforms=["cpu"])
    loaded, values = hansa.load(tmp_path / "robust.hansa"), clients(6)
    check(loaded(values), values)
    (collected,) = hansa.load_ports(tmp_path / "robust.hansa").clients[0].collected
    stages = hansa.Stages(loaded)
    name = stages.servers[1].inputs[0].name
    assert stages.servers[1].inputs[0].type == collected.type
    kept = [stages.clients[0].work([], [value]).kept[0] for value in values]
    rows = jax.tree.map(lambda *leaves: np.stack(leaves), *kept)
    check(stages.result(stages.servers[1].run({name: rows})), values)


def test_it_is_said_beforehand_what_the_server_will_hold() -> None:
    explanation = hansa.explain(robust)
    assert "holds      the argument of each client: 40 bytes for each" in explanation
    assert "seen         stack: in a deployment the server would see each client's" in explanation
    assert [report.bytes for report in explanation.stages[2].holds] == [40]


def test_values_of_no_known_size_are_refused() -> None:
    with pytest.raises(TypeError, match=r"federated_stack needs tensors of known size"):
        hansa.federated_computation(hansa.federated_stack, "{float32[?]}@CLIENTS")
