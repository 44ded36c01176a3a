"""How many rows there are, their means, and their scatter about these: sums over the clients, in two passes.

Scatter is the sum of products of differences from the mean. Of sums of squares of the numbers themselves, little would
be left where a mean is large beside the deviation. So a round finds the means of its rows first, and sends them back to
the clients for the scatter. What earlier rounds have found is joined to it at the server (Chan, Golub and LeVeque,
"Updating formulae and a pairwise algorithm for computing sample variances", 1979).
"""

from __future__ import annotations

from typing import Any, cast

import jax.numpy as jnp
import numpy as np

from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.sequences import sequence_reduce
from hansa.language.tracing import federated_computation, wide_computation
from hansa.learning.tabular.rows import Rows
from hansa.types import CLIENTS, SERVER, FederatedType, SequenceType, StructType, TensorType, Type


def moments(rows: Rows, *, products: bool) -> tuple[Computation, Computation]:
    """What makes the first state, and what adds the rows of a round's clients to one.

    Args:
        rows: what batches have.
        products: whether scatter is of all pairs of columns, `[width, width]`, of rows of one class; else of each
            column with itself, `[classes, width]`.

    Returns:
        `( -> S)` and `(<S,{batch*}@CLIENTS> -> <S,metrics>)`, where S is
        `<counts=int64[classes],means=float64[classes,width],scatter=float64[…]>@SERVER`. Metrics are `num_examples` and
        `num_excluded_clients`, of which nothing is counted.
    """
    shape = (rows.width, rows.width) if products else (rows.classes, rows.width)
    of_means = TensorType("float64", (rows.classes, rows.width))
    state_type = StructType(
        [
            ("counts", TensorType("int64", (rows.classes,))),
            ("means", of_means),
            ("scatter", TensorType("float64", shape)),
        ]
    )
    count, spread = _count(rows), _spread(rows, of_means, shape, products)
    counted, spread_type = count.type_signature.result, spread.type_signature.result

    @wide_computation()
    def begin() -> Any:
        return {
            "counts": jnp.zeros(rows.classes, jnp.int64),
            "means": jnp.zeros((rows.classes, rows.width)),
            "scatter": jnp.zeros(shape),
        }

    @wide_computation(counted)
    def means(sums: Any) -> Any:
        return sums.totals / jnp.maximum(sums.counts, 1)[:, None]

    @wide_computation(state_type, counted, of_means, spread_type)
    def joined(state: Any, sums: Any, means: Any, scatter: Any) -> Any:
        counts = state.counts + sums.counts
        step = means - state.means
        share = (sums.counts / jnp.maximum(counts, 1))[:, None]
        weight = state.counts[:, None] * share
        between = (weight * step).T @ step if products else weight * step * step
        return {
            "counts": counts,
            "means": jnp.where(sums.counts[:, None] > 0, state.means + share * step, state.means),
            "scatter": state.scatter + scatter + between,
        }

    @wide_computation(counted)
    def metrics(sums: Any) -> Any:
        return {"num_examples": sums.counts.sum(), "num_excluded_clients": sums.excluded}

    @federated_computation(FederatedType(state_type, SERVER), FederatedType(SequenceType(rows.batch_type), CLIENTS))
    def next(state: Any, data: Any) -> Any:
        sums = on.federated_sum(on.federated_map(count, data))
        own = on.federated_map(means, sums)
        scatter = on.federated_sum(on.federated_map(spread, [on.federated_broadcast(own), data]))
        return on.federated_map(joined, [state, sums, own, scatter]), on.federated_map(metrics, sums)

    initialize = federated_computation(lambda: on.federated_value(begin(), SERVER))
    return cast(Computation, initialize), next


def check_counted(state: Any, what: str) -> None:
    """Refuses a state to which no round has added an example.

    Args:
        state: a state of `moments`.
        what: what would be made of it, in the message.

    Raises:
        ValueError: if nothing is counted.
    """
    if not int(np.sum(np.asarray(state.counts))):
        raise ValueError(
            f"{what} cannot be made of no examples: the state counts none yet. Call process.next(state, clients) "
            "first, and see its metrics: num_examples, and num_excluded_clients of which nothing is counted"
        )


def _count(rows: Rows) -> Computation:
    """batches -> how many rows a client has of each class, and their sums."""

    @wide_computation()
    def start() -> Any:
        totals = jnp.zeros((rows.classes, rows.width))
        return {"counts": jnp.zeros(rows.classes, jnp.int64), "totals": totals, "all": jnp.bool_(True)}

    @wide_computation(start.type_signature.result, rows.batch_type)
    def step(carry: Any, batch: Any) -> Any:
        classes = rows.memberships(batch)
        return {
            "counts": carry.counts + classes.sum(0).astype(jnp.int64),
            "totals": carry.totals + classes.T @ rows.of(batch),
            "all": carry.all & rows.count(batch),
        }

    @wide_computation(start.type_signature.result)
    def finish(carry: Any) -> Any:
        return {
            "counts": jnp.where(carry.all, carry.counts, 0),
            "totals": jnp.where(carry.all, carry.totals, 0.0),
            "excluded": jnp.int64(~carry.all),
        }

    @federated_computation(SequenceType(rows.batch_type))
    def count(data: Any) -> Any:
        return finish(sequence_reduce(data, start(), step))

    return count


def _spread(rows: Rows, of_means: Type, shape: tuple[int, ...], products: bool) -> Computation:
    """(means, batches) -> the scatter of a client's rows about them."""

    @wide_computation()
    def start() -> Any:
        return {"scatter": jnp.zeros(shape), "all": jnp.bool_(True)}

    @wide_computation(start.type_signature.result, rows.batch_type, of_means)
    def step(carry: Any, batch: Any, means: Any) -> Any:
        classes = rows.memberships(batch)
        off = rows.of(batch) - classes @ means
        scatter = off.T @ off if products else classes.T @ (off * off)
        return {"scatter": carry.scatter + scatter, "all": carry.all & rows.count(batch)}

    @wide_computation(start.type_signature.result)
    def finish(carry: Any) -> Any:
        return jnp.where(carry.all, carry.scatter, 0.0)

    @federated_computation(of_means, SequenceType(rows.batch_type))
    def spread(means: Any, data: Any) -> Any:
        return finish(sequence_reduce(data, start(), step, given=means))

    return spread
