"""An accumulator of variables that come together over batches and clients by a fold each, with metrics made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import jax.numpy as jnp
import numpy as np

from hansa.language import intrinsics
from hansa.language.computation import Computation
from hansa.language.dependence import dependence
from hansa.language.local import tensors, to_struct
from hansa.language.tracing import federated_computation, narrow_computation
from hansa.models import exact
from hansa.models.accumulators import Accumulator, Seen, type_of_report
from hansa.types import CLIENTS, FederatedType, Struct, StructType, tensor_leaves

_OF_CLIENTS = {
    "sum": intrinsics.federated_sum,
    "max": intrinsics.federated_max,
    "min": intrinsics.federated_min,
}
_OF_TWO: dict[str, Callable[[Any, Any], Any]] = {"max": jnp.maximum, "min": jnp.minimum}


def merged(
    what: str, kind: StructType, folds: Sequence[str], contribute: Callable[[Seen], Any], finish: Callable[[Any], Any]
) -> Accumulator:
    """The accumulator of variables, as Keras's metrics keep them.

    Args:
        what: what messages call it.
        kind: a tensor for each variable, float32 or int32.
        folds: "sum", "max" or "min" for each, all from zero. Sums are exact.
        contribute: what a batch makes of each variable that is zero before it.
        finish: from what comes of all batches of all clients to a metric, or a struct of metrics, in 32 bits.
    """
    sums = [i for i, fold in enumerate(folds) if fold == "sum"]
    rest = [i for i, fold in enumerate(folds) if fold != "sum"]
    zero = exact.zero(kind)
    initial = Struct.of(sums=_at(zero.high, sums), lows=_at(zero.low, sums), extremes=_at(zero.high, rest))

    def update(state: Struct, seen: Seen) -> Struct:
        given = [exact.summable(value) for value in contribute(seen)]
        after = exact.add(Struct.of(high=state.sums, low=state.lows), _at(given, sums))
        extremes = [_OF_TWO[folds[i]](value, given[i]) for i, value in zip(rest, state.extremes, strict=True)]
        return Struct.of(sums=after.high, lows=after.low, extremes=_unnamed(extremes))

    def report(state: Struct) -> Struct:
        totals = exact.total(Struct.of(high=state.sums, low=state.lows))
        found = dict(zip([*sums, *rest], [*totals, *state.extremes], strict=True))
        return Struct([(name, found[i]) for i, name in enumerate(kind.names)])

    reported = cast(StructType, type_of_report(report, initial))
    return Accumulator(initial, update, report, _aggregation(what, reported, folds, finish))


def _aggregation(what: str, kind: StructType, folds: Sequence[str], finish: Callable[[Any], Any]) -> Computation:
    """From the clients' reports to the metrics, each of those variables only that it is made of."""

    def finished(values: Any) -> Any:
        bounded = [x if fold == "sum" else _OF_TWO[fold](x, 0) for x, fold in zip(values, folds, strict=True)]
        return to_struct(finish(Struct(zip(kind.names, bounded, strict=True))), what)  # where there is nobody: zero

    whole = narrow_computation(kind)(finished)
    result = whole.type_signature.result
    by_name = isinstance(result, StructType) and len(result) > 0
    flow = iter(dependence(whole))
    needs: dict[frozenset[int], list[int]] = {}
    for number, member in enumerate(result if by_name else [result]):
        needs.setdefault(frozenset().union(*(next(flow) for _ in tensor_leaves(member))), []).append(number)

    zeros = [np.zeros(cast(Any, leaf.shape), leaf.dtype) for leaf in tensors(kind)]

    def part(needed: list[int], numbers: list[int]) -> Computation:
        """From the variables that some metrics are made of to these metrics."""

        @narrow_computation(StructType([kind.fields[i] for i in needed]))
        def of_needed(values: Any) -> Any:
            given = dict(zip(needed, values, strict=True))
            found = finished([given.get(i, zero) for i, zero in enumerate(zeros)])
            return _at(found, numbers) if by_name else found

        return cast(Computation, of_needed)

    parts = [(sorted(needed) or [0], numbers) for needed, numbers in needs.items()]
    makers = [part(*each) for each in parts]

    @federated_computation(FederatedType(kind, CLIENTS))
    def aggregate(reports: Any) -> Any:
        folded = [_OF_CLIENTS[fold](reports[i]) for i, fold in enumerate(folds)]
        found: dict[int, Any] = {}
        for (needed, numbers), maker in zip(parts, makers, strict=True):
            values = intrinsics.federated_map(maker, [folded[i] for i in needed])
            if not by_name:
                return values
            found |= {number: values[i] for i, number in enumerate(numbers)}
        return intrinsics.federated_zip(Struct((name, found[i]) for i, name in enumerate(result.names)))

    return aggregate


def _at(values: Any, positions: Sequence[int]) -> Struct:
    return _unnamed([values[i] for i in positions])


def _unnamed(values: Sequence[Any]) -> Struct:
    return Struct([(None, value) for value in values])
