"""Rules that keep something at each client, by themselves and nested in others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hansa
from hansa import CLIENTS, SERVER, aggregators
from hansa.templates import MeasuredOutput

STATE = "<server=<rounds=int32>@SERVER,clients={<last=float32>}@CLIENTS>"


def changes() -> aggregators.Factory:
    """The mean of what changed in each client's value since it was last counted."""

    @hansa.federated_computation
    def initialize() -> Any:
        last = hansa.federated_value({"last": np.float32(0)}, CLIENTS)
        return {"server": hansa.federated_value({"rounds": 0}, SERVER), "clients": last}

    change = hansa.jax_computation(lambda value, last: value - last)
    keep = hansa.jax_computation(lambda value, last, weight: {"last": value * (weight > 0) + last * (weight <= 0)})
    count = hansa.jax_computation(lambda rounds: {"rounds": rounds + 1})

    @hansa.federated_computation(STATE, "{float32}@CLIENTS", "{float32}@CLIENTS")
    def next(state: Any, value: Any, weight: Any) -> Any:
        changed = hansa.federated_map(change, [value, state.clients.last])
        own = hansa.federated_map(keep, [value, state.clients.last, weight])
        after = {"server": hansa.federated_map(count, state.server.rounds), "clients": own}
        return MeasuredOutput(after, hansa.federated_mean(changed, weight), hansa.federated_value([], SERVER))

    return aggregators.Factory("changes", lambda value, weight: aggregators.Aggregation(initialize, next))


def test_what_clients_keep_nests_by_name_and_stays_where_a_client_is_left_out() -> None:
    rule = aggregators.zeroing(aggregators.clipping(changes(), bound=2.0, quantile=0.5))
    aggregation = rule("float32")
    assert aggregation.state_type.compact() == (
        "<server=<clipping=<bound=float32,changes=<rounds=int32>>>@SERVER,"
        "clients={<clipping=<changes=<last=float32>>>}@CLIENTS>"
    )
    assert aggregation.needs == "sums"
    state = aggregation.initialize()
    output = aggregation.next(state, [1.0, 5.0, 1.5], [1.0, 1.0, 0.0])
    assert output.result == 1.5
    last = [float(output.state.clients[place].clipping.changes.last) for place in range(4)]
    assert last == [1.0, 2.0, 0.0, 0.0]
    again = aggregation.next(output.state, [0.5, 0.5, 1.0], [1.0, 0.0, 3.0])
    np.testing.assert_allclose(again.result, (0.5 - 1.0 + 3 * 1.0) / 4)
    assert [float(again.state.clients[place].clipping.changes.last) for place in range(3)] == [0.5, 2.0, 1.0]
    assert again.state.server.clipping.changes.rounds == 2
    with hansa.runtime(hansa.ReferenceRuntime()):
        same = aggregation.next(
            aggregation.next(state, [1.0, 5.0, 1.5], [1.0, 1.0, 0.0]).state, [0.5, 0.5, 1.0], [1, 0, 3]
        )
    assert same.result == again.result


def test_a_state_that_is_elsewhere_is_refused() -> None:
    @hansa.federated_computation
    def initialize() -> Any:
        return {"server": hansa.federated_value(0, SERVER), "clients": hansa.federated_value(0, SERVER)}

    @hansa.federated_computation("<server=int32@SERVER,clients=int32@SERVER>", "{float32}@CLIENTS", "{float32}@CLIENTS")
    def next(state: Any, value: Any, weight: Any) -> Any:
        return MeasuredOutput(state, hansa.federated_mean(value, weight), hansa.federated_value([], SERVER))

    with pytest.raises(TypeError, match=r"the part `clients` of the state .* must be a value of each client"):
        aggregators.Aggregation(initialize, next)
    both = changes()("float32")
    with pytest.raises(TypeError, match="the state of the process 'changes' must be one value at the server"):
        hansa.templates.chain_measured_processes(changes=both)
