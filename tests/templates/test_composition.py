"""Measured processes made of others: one after another, and side by side."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa import SERVER
from hansa.templates import (
    AggregationProcess,
    MeasuredOutput,
    MeasuredProcess,
    chain_measured_processes,
    concatenate_measured_processes,
)


def nothing() -> Any:
    return hansa.federated_value([], SERVER)


def clip(kind: str = "float32[2]") -> MeasuredProcess:
    """Clips to a bound that halves in each step."""
    initialize = hansa.federated_computation(lambda: hansa.federated_value(4.0, SERVER))
    half = hansa.jax_computation(lambda bound: bound / 2)
    bounded = hansa.jax_computation(lambda x, bound: jnp.clip(x, -bound, bound))

    @hansa.federated_computation("float32@SERVER", f"{{{kind}}}@CLIENTS")
    def next(bound: Any, value: Any) -> Any:
        clipped = hansa.federated_map(bounded, [value, hansa.federated_broadcast(bound)])
        return MeasuredOutput(hansa.federated_map(half, bound), clipped, hansa.federated_zip({"bound": bound}))

    return MeasuredProcess(initialize, next)


def mean(kind: str = "float32[2]", weight: str = "float32") -> AggregationProcess:
    @hansa.federated_computation("<>@SERVER", f"{{{kind}}}@CLIENTS", f"{{{weight}}}@CLIENTS")
    def next(state: Any, value: Any, weight: Any) -> Any:
        return MeasuredOutput(state, hansa.federated_mean(value, weight), hansa.federated_sum(weight))

    return AggregationProcess(hansa.federated_computation(nothing), next)


def total(kind: str = "float32") -> AggregationProcess:
    @hansa.federated_computation("<>@SERVER", f"{{{kind}}}@CLIENTS")
    def next(state: Any, value: Any) -> Any:
        return MeasuredOutput(state, hansa.federated_sum(value), nothing())

    return AggregationProcess(hansa.federated_computation(nothing), next)


def test_a_chain_hands_each_result_to_the_next_process() -> None:
    chain = chain_measured_processes(clip=clip(), mean=mean())
    assert chain.next.type_signature.compact() == (
        "(<state=<clip=float32,mean=<>>@SERVER,value={float32[2]}@CLIENTS,weight={float32}@CLIENTS> -> "
        "<state=<clip=float32,mean=<>>@SERVER,result=float32[2]@SERVER,"
        "measurements=<clip=<bound=float32>,mean=float32>@SERVER>)"
    )
    aggregation = AggregationProcess(chain.initialize, chain.next)
    assert aggregation.is_weighted
    values, weights = [np.float32([5, -1]), np.float32([1, -9])], [1.0, 3.0]
    state, bound = aggregation.initialize(), 4.0
    for _ in range(3):
        state, result, measurements = aggregation.next(state, values, weights)
        np.testing.assert_allclose(result, np.average(np.clip(values, -bound, bound), axis=0, weights=weights))
        assert (measurements.clip.bound, measurements.mean) == (bound, 4)
        bound /= 2
        assert state.clip == bound


def test_a_chain_of_one_is_that_process_with_its_name() -> None:
    chain = chain_measured_processes(only=clip("float32"))
    state, result, measurements = chain.next(chain.initialize(), [7.0])
    assert (state.only, result, measurements.only.bound) == (2, [4], 4)


def test_processes_side_by_side_have_a_field_each() -> None:
    both = concatenate_measured_processes(clipped=clip("float32"), sums=total("int32"))
    value = [{"clipped": 9.0, "sums": 1}, {"clipped": -1.0, "sums": 2}]
    output = both.next(both.initialize(), value)
    assert output.result._asdict() == {"clipped": [4, -1], "sums": 3}
    assert output.state.clipped == 2
    sums = concatenate_measured_processes(a=total("float32"), b=total("int32"))
    assert str(sums.next.type_signature.result["result"]) == "<a=float32,b=int32>@SERVER"
    assert AggregationProcess(sums.initialize, sums.next).next(sums.initialize(), [[1.0, 2]]).result.b == 2


@pytest.mark.parametrize(
    ("compose", "message"),
    [
        (
            lambda: chain_measured_processes(clip=clip(), mean=mean("float32[3]")),
            r"(?s)the value of the process 'mean', which is the result of the process 'clip': expected float32\[3\], "
            r"found float32\[2\].*in full: \{float32\[3\]\}@CLIENTS.*\{float32\[2\]\}@CLIENTS",
        ),
        (
            lambda: chain_measured_processes(first=total(), second=total()),
            r"the value of the process 'second', which is the result of the process 'first': expected "
            r"\{float32\}@CLIENTS, found float32@SERVER",
        ),
        (
            lambda: concatenate_measured_processes(a=mean()),
            r"next of the process 'a' must take a state and a value only, found <state=<>@SERVER,value=",
        ),
        (lambda: chain_measured_processes(a=total().next), "a must be a MeasuredProcess, found <GraphComputation next"),
        (chain_measured_processes, r"needs at least one process, by name: chain_measured_processes\(clip=…, mean=…\)"),
        (
            lambda: chain_measured_processes(a=reweighted("int32"), b=mean("float32[2]", "float32")),
            r"the processes 'a' and 'b' both take a parameter 'weight', which is \{int32\}@CLIENTS for one and "
            r"\{float32\}@CLIENTS for the other",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(compose: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        compose()


def reweighted(weight: str) -> MeasuredProcess:
    @hansa.federated_computation("<>@SERVER", "{float32[2]}@CLIENTS", f"{{{weight}}}@CLIENTS")
    def next(state: Any, value: Any, weight: Any) -> Any:
        return MeasuredOutput(state, value, nothing())

    return MeasuredProcess(hansa.federated_computation(nothing), next)
