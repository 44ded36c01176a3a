"""What each tensor of a result depends on."""

from __future__ import annotations

import hansa
from hansa.language.dependence import dependence


def test_a_tensor_of_an_aggregate_depends_on_that_tensor_of_the_contributions():
    @hansa.federated_computation("{<a=int32,b=float32,w=float32>}@CLIENTS", "int32@SERVER")
    def aggregated(x, most):
        return (
            hansa.federated_secure_sum(x.a, 3),
            hansa.federated_secure_sum(x.a, most),
            hansa.federated_max({"a": x.a, "b": x.b}),
            hansa.federated_mean(x.b, x.w),
            hansa.federated_secure_sum(x.a, 3, count_clipped=True).num_clipped,
        )

    a, b, w, most = (frozenset([i]) for i in range(4))
    assert dependence(aggregated) == [a, a | most, a, b, b | w, a]


def test_functions_are_looked_into_and_what_cannot_be_told_apart_depends_on_all():
    both = hansa.jax_computation(lambda x: {"sum": x.a + x.b, "b": x.b, "one": 1}, "<a=float32,b=float32>")
    kept = hansa.federated_computation(lambda x: hansa.federated_map(both, x), "{<a=float32,b=float32>}@CLIENTS")
    assert dependence(kept) == [frozenset([0, 1]), frozenset([1]), frozenset()]

    keep = hansa.jax_computation(lambda state, x: {"a": state.a + x.a, "b": x.b}, *["<a=float32,b=float32>"] * 2)
    same = hansa.jax_computation(lambda state: state, "<a=float32,b=float32>")
    zero = {"a": 0.0, "b": 0.0}
    own = hansa.federated_computation(
        lambda x: hansa.federated_aggregate(x, zero, keep, keep, same), "{<a=float32,b=float32>}@CLIENTS"
    )
    assert dependence(own) == [frozenset([0, 1])] * 2
