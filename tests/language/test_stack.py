"""`federated_stack`: the clients' values in arrays with a row for each, for rules that have to see each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa.language.terms import Terms
from hansa.runtimes.inprocess import runtime as inprocess
from hansa.runtimes.stages.devices import Devices

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


@pytest.mark.parametrize("options", [{}, {"clients_per_chunk": 2}])
def test_rows_are_the_clients_in_their_order_and_as_many(options: dict[str, Any]) -> None:
    @hansa.federated_computation("{float32[2]}@CLIENTS")
    def differences(values):
        rows = hansa.federated_stack(values)
        assert rows.type_signature.compact() == "float32[?,2]@SERVER"
        doubled = hansa.federated_map(hansa.jax_computation(lambda rows: rows[::-1] * 2), rows)
        distance = hansa.jax_computation(lambda rows, own: jnp.abs(rows - own).sum())
        return rows, doubled, hansa.federated_map(distance, [hansa.federated_broadcast(rows), values])

    for number in (3, 0):
        values = np.arange(2 * number, dtype="float32").reshape(number, 2)
        with hansa.runtime(hansa.InProcessRuntime(**options)):
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


@hansa.federated_computation("{float32[64]}@CLIENTS", "float32@SERVER")
def in_two_stages(values, scale):
    """The median, then who is how far from it, with folds of every kind beside, and one from a computed start."""
    scaled = hansa.federated_map(hansa.jax_computation(lambda v, s: v * s), [values, hansa.federated_broadcast(scale)])
    middle = hansa.federated_map(hansa.jax_computation(lambda v: jnp.median(v, 0)), hansa.federated_stack(scaled))
    away = hansa.jax_computation(lambda v, m: jnp.sqrt(((v - m) ** 2).sum()))
    apart = hansa.federated_map(away, [scaled, hansa.federated_broadcast(middle)])
    last = hansa.jax_computation(lambda state, v: state * np.float32(0.9) + v)
    merge = hansa.jax_computation(lambda a, b: a * np.float32(0.5) + b)
    least = hansa.federated_map(
        hansa.jax_computation(lambda v, m: v.min() + m.sum() / 3), [hansa.federated_stack(apart), middle]
    )
    return {
        "middle": middle,
        "apart": apart,
        "mean": hansa.federated_mean(scaled),
        "least": least,
        "folded": hansa.federated_aggregate(apart, np.float32(1), last, merge, hansa.jax_computation(lambda s: s / 7)),
        "all": hansa.federated_collect(apart),
    }


def test_what_is_much_lies_once_and_has_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    values = list(rng.normal(size=(21, 64)).astype("float32"))

    def found(devices: int) -> Any:
        with hansa.runtime(hansa.InProcessRuntime(jax.devices()[:devices])):
            return in_two_stages(values, 1.7)

    whole = found(1)
    scaled = np.array(values) * np.float32(1.7)
    np.testing.assert_array_equal(whole.middle, np.median(scaled, 0))
    np.testing.assert_allclose(whole.apart, np.linalg.norm(scaled - np.median(scaled, 0), axis=1), rtol=1e-6)
    alone, execute = [], Devices.execute

    def watched(self: Devices, compiled: Any, key: Any, function: Any, args: Any, *rest: Any, **named: Any) -> Any:
        if key[0] in ("server", "fold"):
            sizes = [np.shape(leaf) for leaf in jax.tree.leaves(args)]
            alone.append((key[0], named.get("alone", False), any(size[:1] == (24,) for size in sizes)))
        return execute(self, compiled, key, function, args, *rest, **named)

    monkeypatch.setattr(Devices, "execute", watched)
    # Of several devices the first alone, or in chunks of 8 clients, or all at once.
    for limit, most in (("_ON_EACH", 1 << 12), ("_AT_ONCE", 1 << 11), ("_AT_ONCE", 1 << 12)):
        monkeypatch.setattr(inprocess, limit, most)
        for devices in (1, 2):
            alone.clear()
            again = found(devices)
            assert bool(alone) == (limit == "_AT_ONCE" or devices > 1)
            assert {place for what, place, _ in alone if what == "server"} <= ({True} if alone else set())
            assert not any(has_all for what, _, has_all in alone if what == "fold")
            for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(again), strict=True):
                np.testing.assert_array_equal(one, other)
    assert any(has_all for what, _, has_all in alone if what == "server")


@pytest.mark.parametrize("rule", [lambda v: v.min(0), lambda v: jnp.median(v, 0), lambda v: jnp.sort(v, 0)[0]])
def test_where_no_client_takes_part_it_is_said_what_to_do(rule: Any) -> None:
    of_all = hansa.jax_computation(rule)
    computation = hansa.federated_computation(
        lambda values: hansa.federated_map(of_all, hansa.federated_stack(values)), "{float32[2]}@CLIENTS"
    )
    for runtime in (hansa.InProcessRuntime(), hansa.ReferenceRuntime()):
        with hansa.runtime(runtime):
            with pytest.raises(
                ValueError, match=r"federated_stack at .*test_stack.py.* has no rows, as no client .*min_cohort=1"
            ):
                computation([])
            np.testing.assert_array_equal(computation([[1, 2]]), [1, 2])


@hansa.federated_computation("{float32[2]}@CLIENTS")
def of_two(values):
    return {
        "mean": hansa.federated_map(
            hansa.jax_computation(lambda v: v.mean(0)), hansa.federated_stack(values, min_cohort=2)
        ),
        "all": hansa.federated_collect(values, min_cohort=3),
    }


def test_fewer_clients_than_there_must_be_are_refused(tmp_path: Path) -> None:
    hansa.save(of_two, tmp_path / "of_two.hansa", platforms=["cpu"])
    loaded = hansa.load(tmp_path / "of_two.hansa")
    values = rng.normal(size=(3, 2)).astype("float32")
    for runtime in (hansa.InProcessRuntime(), hansa.ReferenceRuntime()):
        with hansa.runtime(runtime):
            for number, least in ((0, "[23]"), (1, "[23]"), (2, 3)):
                with pytest.raises(
                    ValueError, match=f"is to be of at least min_cohort={least} clients, and {number} take"
                ):
                    of_two(list(values[:number]))
            assert len(of_two(list(values)).all) == 3
    with pytest.raises(
        ValueError, match=r"federated_(stack|collect) is to be of at least min_cohort=. clients, and 1 takes part"
    ):
        loaded(list(values[:1]))
    np.testing.assert_array_equal(loaded(list(values)).all, values)
    terms = [port.terms for port in hansa.load_ports(tmp_path / "of_two.hansa").clients[0].collected]
    assert sorted(terms, key=str) == [Terms(min_cohort=2), Terms(min_cohort=3)]
    text = str(hansa.explain(of_two))
    assert "stack at the server, of at least 2 clients" in text
    assert "collect at the server, of at least 3 clients" in text
    stages = hansa.Stages(of_two)
    (rows,) = [port.name for port in stages.servers[1].inputs]
    with pytest.raises(ValueError, match="min_cohort=2 clients, and 1 takes part"):
        stages.servers[1].run({rows: values[:1]})
    given = stages.servers[1].run({rows: values[:2]})
    own = [{port.name: value for port in stages.returned} for value in values[:2]]
    with pytest.raises(ValueError, match="min_cohort=3 clients, and 2 take part"):
        stages.result(given, own)
    with pytest.raises(ValueError, match="the min_cohort of federated_stack must be a positive number"):
        hansa.federated_computation(lambda v: hansa.federated_stack(v, min_cohort=0), "{float32}@CLIENTS")


def test_values_of_no_known_size_are_refused() -> None:
    with pytest.raises(TypeError, match=r"federated_stack needs tensors of known size"):
        hansa.federated_computation(hansa.federated_stack, "{float32[?]}@CLIENTS")
