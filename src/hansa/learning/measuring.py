"""The metrics of a round: each is that of the clients whose part in it is finite; other parts are left out and counted.

A client's part in a metric is what of its report the metric depends on, as the aggregation says. So a client may be
left out of one metric, and have its part in all others and in the model.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.dependence import dependence
from hansa.language.local import tensors
from hansa.language.tracing import federated_computation, jax_computation
from hansa.learning.screening import all_finite, int64, is_float, struct_of
from hansa.types import CLIENTS, SERVER, FederatedType, StructType, TensorType, Type, is_tensor_structure, tensor_leaves

_TALLY = StructType([("measured", TensorType("int64")), ("left_out", TensorType("int64"))])


class _Group(NamedTuple):
    """Metrics that depend on the same tensors of the clients' reports."""

    names: list[str]
    tensors: frozenset[int]


def build_measuring(metrics: Computation, counters: StructType) -> Computation:
    """What a round reports, of what each client does.

    Args:
        metrics: the aggregation of a model's metrics, `({report}@CLIENTS -> <…>@SERVER)`.
        counters: what each client adds to counters: nothing, if it has a part in the round.

    Returns:
        A computation of reports, which are zeros at clients that have no part, and counters, to `metrics` and
        `counters`, with `num_non_finite_metrics` among these. A metric is NaN where clients had a part in it, and none
        a finite one, if its dtype has NaN.
    """
    kind = cast(FederatedType, metrics.type_signature.parameter)
    groups = _groups(metrics, kind.member)
    screens = [_screen(kind.member, group.tensors, counters) for group in groups]

    @federated_computation(kind, FederatedType(counters, CLIENTS))
    def measure(reports: Any, counts: Any) -> Any:
        plain = metrics(reports)
        found: dict[str, Any] = {name: plain[name] for name in cast(Any, plain.type_signature.member).names}
        tallies = []
        for group, screen in zip(groups, screens, strict=True):
            screened = on.federated_map(screen, [reports, counts])
            values, tally = metrics(screened.report), on.federated_sum(screened.tally)
            tallies.append(tally)
            for name in group.names:
                value = values[name]
                member = value.type_signature.member
                found[name] = (
                    on.federated_map(_or_nan(member), [value, tally]) if is_tensor_structure(member) else value
                )
        counted = on.federated_sum(counts)
        total = _total([len(group.names) for group in groups])
        left_out = on.federated_map(total, tallies) if groups else on.federated_value(np.int64(0), SERVER)
        totals: dict[Any, Any] = {
            **{name: counted[i] for i, name in enumerate(counters.names)},
            "num_non_finite_metrics": left_out,
        }
        return {"metrics": on.federated_zip(found), "counters": on.federated_zip(totals)}

    return measure


def _groups(metrics: Computation, report: Type) -> list[_Group]:
    """The metrics that depend on floats, by what they depend on."""
    floats = {i for i, leaf in enumerate(tensors(report)) if leaf.dtype.kind not in "biu"}
    flow = iter(dependence(metrics))
    groups: dict[frozenset[int], list[str]] = {}
    for name, member in struct_of(metrics.type_signature.result).fields:
        needed = frozenset[int]().union(*(next(flow) for _ in tensor_leaves(member)))
        if needed & floats:
            groups.setdefault(needed, []).append(cast(str, name))
    return [_Group(names, needed) for needed, names in groups.items()]


def _screen(report: Type, needed: frozenset[int], counters: StructType) -> Computation:
    """(a client's report, its counters) -> its part in a metric, or zeros, and what it adds to the metric's tally."""

    @jax_computation(report, counters)
    def screen(report: Any, counts: Any) -> Any:
        leaves, tree = jax.tree.flatten(report)
        finite = all_finite([leaves[i] for i in needed])
        part = [jnp.where(finite, leaf, jnp.zeros_like(leaf)) if i in needed else leaf for i, leaf in enumerate(leaves)]
        takes_part = sum(counts) == 0
        tally = {"measured": int64(takes_part & finite), "left_out": int64(takes_part & ~finite)}
        return {"report": jax.tree.unflatten(tree, part), "tally": tally}

    return screen


def _or_nan(kind: Type) -> Computation:
    """(a metric, its tally) -> the metric, or NaN where it is of nobody."""

    @jax_computation(kind, _TALLY)
    def or_nan(metric: Any, tally: Any) -> Any:
        nobody = (tally.measured == 0) & (tally.left_out > 0)
        return jax.tree.map(lambda leaf: jnp.where(nobody, jnp.nan, leaf) if is_float(leaf) else leaf, metric)

    return or_nan


def _total(sizes: list[int]) -> Computation:
    """The tallies of groups of some sizes -> how many metrics were left out."""

    @jax_computation(StructType([(None, _TALLY)] * len(sizes)))
    def total(tallies: Any) -> Any:
        return int64(sum(size * tally.left_out for size, tally in zip(sizes, tallies, strict=True)))

    return total
