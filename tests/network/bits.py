"""Computations on devices over TLS and in this process: prints what differs, and how it was counted.

    python -m tests.network.bits WHAT PROCESSES

`test_bits` runs it in a process of its own, as users compile: tests compile without optimisation, and so by other code.
"""

from __future__ import annotations

import sys
from typing import Any

import jax
import numpy as np

import hansa
from tests.program.digits import averaging, population, softmax


def differing(found: Any, expected: Any) -> list[str]:
    """The places at which two structures have other bits."""
    a, b = (jax.tree_util.tree_leaves_with_path(each) for each in (found, expected))
    assert [path for path, _ in a] == [path for path, _ in b]
    return [
        jax.tree_util.keystr(path)
        for (path, mine), (_, other) in zip(a, b, strict=True)
        if np.asarray(mine).tobytes() != np.asarray(other).tobytes()
    ]


def training(processes: int) -> list[Any]:
    """Rounds of averaging of shuffled data, by hand and by `train`, with as many clients as processes, or ten."""
    clients = 2 if processes == 2 else 10
    process, data = averaging(), population(clients).shuffle(seed=5).repeat(2)
    state = process.initialize()
    by_hand = process.next(state, data.cohort(range(clients)))
    expected = hansa.program.train(process, data, 2, progress=False)
    with hansa.network.local(process, data, processes) as network, hansa.runtime(network):
        found_by_hand = process.next(state, network.devices())
        found = hansa.program.train(process, network.devices(), 2, progress=False)
        outcomes = [each["outcome"] for each in network.network.outcomes()]
    assert outcomes == ["counted"] * 3 * clients
    assert any(np.any(leaf) for leaf in jax.tree.leaves(found.state.model))
    records = [list(each.history["loss"]) for each in (found, expected)]
    return [
        differing(found_by_hand, by_hand),
        differing(found.state, expected.state),
        [] if records[0] == records[1] else records,
    ]


def two_stages() -> Any:
    """Two client stages, of which the second has what clients kept of the first, and a fold in the cohort's order."""
    drawn = hansa.jax_computation(
        lambda x, number: x + jax.random.normal(jax.random.key(number), (3,)), "float32[3]", "int32"
    )
    scaled = hansa.jax_computation(lambda mean, factor: mean * factor, "float32[3]", "float32")
    minus = hansa.jax_computation(lambda a, b: a - b, "float32[3]", "float32[3]")
    fading = hansa.jax_computation(lambda state, x: 0.7 * state + x, "float32[3]", "float32[3]")
    same = hansa.jax_computation(lambda state: state, "float32[3]")

    @hansa.federated_computation("{float32[3]}@CLIENTS", "float32@SERVER")
    def computation(readings, factor):
        own = hansa.federated_map(drawn, [readings, hansa.federated_client_id()])
        mean = hansa.federated_mean(own)
        centre = hansa.federated_broadcast(hansa.federated_map(scaled, [mean, factor]))
        away = hansa.federated_map(minus, [own, centre])
        last = hansa.federated_aggregate(away, np.zeros(3, np.float32), fading, fading, same)
        return {"mean": mean, "last": last, "most": hansa.federated_max(away)}

    return computation


def stages(processes: int) -> list[Any]:
    """The two stages, of more clients than are folded one after another."""
    readings = np.random.default_rng(7).normal(size=(20, 3)).astype(np.float32)
    computation, factor = two_stages(), np.float32(0.3)
    ids = [*range(20)]
    clients = {i: {"readings": readings[i]} for i in ids}
    expected, found = [], []
    with hansa.network.local(computation, clients, processes) as network:
        for chosen in (ids, ids[:7]):  # whose positions are their ids, as in a list
            with hansa.runtime(network):
                found.append(computation(network.devices(chosen), factor))
            expected.append(computation([*readings[chosen]], factor))
    return [differing(found, expected)]


def evaluation(processes: int) -> list[Any]:
    """Federated evaluation of a model on the clients' own examples."""
    process, data = averaging(), population(10)
    evaluate = hansa.learning.build_federated_evaluation(softmax())
    weights = process.next(process.initialize(), data.cohort(range(10)))[0].model
    expected = evaluate(weights, data.cohort(range(10)))
    with hansa.network.local(evaluate, data, processes) as network, hansa.runtime(network):
        return [differing(evaluate(weights, network.devices()), expected)]


def client_state(processes: int) -> list[Any]:
    """SCAFFOLD, whose clients keep a control from round to round; not all take part in each."""
    process = hansa.learning.build_scaffold(softmax(), client_learning_rate=0.1, population=3)
    data, cohorts = population(3).shuffle(seed=5), {1: [0, 1, 2], 2: [1, 2], 3: [0, 2], 4: [0, 1]}
    alone = hansa.program.train(process, lambda number: data.cohort(cohorts[number], number), 4, progress=False)
    with hansa.network.local(process, data, processes) as network, hansa.runtime(network):
        found = hansa.program.train(process, lambda number: network.devices(cohorts[number]), 4, progress=False)
        kept = sorted(path.name for path in network.folder.glob("device-*/states/*/*"))
    assert len(kept) == 6, kept  # of each client, that after the last round that it was in, and the one before
    assert any(np.any(leaf) for leaf in jax.tree.leaves(found.state.server))
    return [differing(found.state.server, alone.state.server), [] if len(found.state.clients) == 0 else ["clients"]]


if __name__ == "__main__":
    print(sys.argv[1], globals()[sys.argv[1]](int(sys.argv[2])))
