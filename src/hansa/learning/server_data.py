"""`ServerData`: data at the server, on which it does what clients do, to compare their updates with its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hansa._tracebacks import boundaries
from hansa.language import intrinsics as on
from hansa.language.local import to_struct
from hansa.language.tracing import narrow_computation, wide_computation
from hansa.learning.screening import finite, int64, struct_of
from hansa.learning.weighting import weight_of
from hansa.types import StructType, TensorType
from hansa.types.mismatch import describe

_NUMBER = TensorType("float32")


@boundaries
@dataclass(frozen=True)
class ServerData:
    """The server has batches of its own, and does the clients' work on them, as one more client with its own draws.

    The process's `next` takes these batches as a third argument, `server_data`, and
    `hansa.program.train(…, arguments={"server_data": batches})` gives them in each round. A client that begins with
    something of its own begins with that; what the server would keep of it is not kept.

    Args:
        compare: `compare(update, of_server)` gives the pair of a client's update and its weight, a number, of what the
            client reports and what the server's work gives, both of one type: a function of JAX. It is computed where
            the client's work is. A client whose weight is then 0 has no part in the new model.

    Examples:
        Who moves against the server is left out:

        >>> def compare(update, of_server):
        ...     same_way = hansa.learning.arithmetic.dot(update.trainable, of_server.trainable) > 0
        ...     return update, jnp.where(same_way, 1.0, 0.0)
        >>> process = hansa.learning.build_process(
        ...     model,
        ...     client_work=hansa.learning.local_training(),
        ...     server_data=hansa.learning.ServerData(compare),
        ... )
        >>> batches = [hansa.Struct.of(x=x, y=y)]
        >>> state, metrics = process.next(process.initialize(), data.cohort([0, 1]), batches)
        >>> print(metrics.server_data)
        <mean_weight=...,min_weight=...>
    """

    compare: Callable[[Any, Any], tuple[Any, Any]]


class Compared(NamedTuple):
    """What becomes of the clients' reports.

    Attributes:
        update, weight: for the aggregator.
        used: 1 for a client that has a part in the new model, else 0.
        measured: the mean and the least of the weights of the clients that trained, at the server.
    """

    update: Any
    weight: Any
    used: Any
    measured: Any


class Comparing:
    """The comparison, for reports of a type.

    Args:
        given: the argument `server_data`.
        report: the type of what the clients' work gives.
        wide: whether the weights may have 64-bit dtypes.

    Attributes:
        update, weight: the types of what comes of it.

    Raises:
        TypeError: if `compare` does not give what it must.
    """

    measured = StructType([("mean_weight", _NUMBER), ("min_weight", _NUMBER)])

    def __init__(self, given: object, report: StructType, wide: bool) -> None:
        if not isinstance(given, ServerData):
            raise TypeError(
                "server_data must be a hansa.learning.ServerData, such as ServerData(lambda update, of_server: …); the "
                f"batches themselves are an argument of next; found {describe(given)}"
            )
        local = wide_computation if wide else narrow_computation

        @local(report["update"], report["used"], report["update"])
        def compare(update: Any, used: Any, of_server: Any) -> Any:
            found = given.compare(update, of_server)
            if not isinstance(found, tuple) or len(found) != 2:
                raise TypeError(f"`compare` must give a pair, of an update and its weight; found {describe(found)}")
            made = to_struct(found[0], "compare")
            weight = jnp.asarray(weight_of(found[1], "`compare` must give one number as the weight"), jnp.float32)
            # What the client has no part in has none in this; nor has what is not a number now.
            there = (used > 0) & (weight > 0) & jnp.isfinite(weight) & finite(made)
            kept = jax.tree.map(lambda leaf: jnp.where(there, leaf, jnp.zeros_like(leaf)), made)
            return {
                "update": kept,
                "weight": jnp.where(there, weight, 0),
                "used": int64(there),
                "least": jnp.where(used > 0, jnp.where(there, weight, 0), jnp.inf),
            }

        @narrow_computation(_NUMBER, _NUMBER)
        def told(mean: Any, least: Any) -> Any:
            return {"mean_weight": mean, "min_weight": jnp.where(jnp.isfinite(least), least, 0)}

        self._compare, self._told = compare, told
        result = struct_of(compare.type_signature.result)
        self.update, self.weight = result["update"], result["weight"]

    def compared(self, reports: Any, of_server: Any) -> Compared:
        """What becomes of the clients' reports, beside what the server's work gives."""
        found = on.federated_map(
            self._compare, [reports.update, reports.used, on.federated_broadcast(of_server.update)]
        )
        measured = on.federated_map(
            self._told, [on.federated_mean(found.weight, reports.used), on.federated_min(found.least)]
        )
        return Compared(found.update, found.weight, found.used, measured)
