"""The server's step: its optimizer takes minus the clients' average update as a gradient."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp

from hansa.language.computation import Computation
from hansa.language.computations import LocalComputation
from hansa.language.local import is_wide, tensors, unflatten
from hansa.language.tracing import federated_computation, jax_computation, narrow_computation, wide_computation
from hansa.learning.fixed import Names, differing, only
from hansa.learning.screening import stays_finite, struct_of
from hansa.models.optimizer import Optimizer
from hansa.models.weights import ModelWeights
from hansa.types import Struct, StructType, TensorType

_COUNT = TensorType("int64")
_FLAG = TensorType("bool")


def server_update_of(optimizer: Optimizer, state: StructType, report: StructType, mean_statistics: bool) -> Computation:
    """(state, average update, number of clients in it) -> the weights that are new in the next state, the rest of it,
    and whether it is another.

    It is the same where there is no client, and where a step from finite numbers would give NaN or infinity.
    """
    kind = state["optimizer_state"]
    assert isinstance(kind, StructType)
    slots = StructType(kind.fields[1:])

    @jax_computation(_COUNT, _FLAG)
    def count_round(rounds: Any, changed: Any) -> Any:
        return rounds + changed

    local = wide_computation if optimizer.wide or is_wide(state["model"]) else narrow_computation

    def server_step(changing: Names | None) -> Computation:
        @local(state["model"], slots, report["update"], _COUNT)
        def step(weights: Any, slots: Any, average: Any, used: Any) -> Any:
            gradients = {name: jnp.negative(leaf) for name, leaf in average.trainable._items()}
            nothing = [(name, gradients.get(name, jnp.zeros_like(leaf))) for name, leaf in weights.trainable._items()]
            after, trainable = optimizer.apply(slots, Struct(nothing), weights.trainable)
            known = average.non_trainable._fields if mean_statistics else ()
            changes = average.non_trainable
            statistics = weights.non_trainable._items()
            rest = Struct([(name, leaf + changes[name] if name in known else leaf) for name, leaf in statistics])
            now, then = ModelWeights.create(trainable, rest), weights
            if changing is not None:
                now, then = only(now, changing), only(then, changing)
            new, old = {"model": now, "slots": after}, {"model": then, "slots": slots}
            changed = (used > 0) & stays_finite(new, old)
            return {**jax.tree.map(lambda a, b: jnp.where(changed, a, b), new, old), "changed": changed}

        return cast(Computation, step)

    step = server_step(None)
    assert isinstance(step, LocalComputation) and step.type_signature.parameter is not None
    leaves = list(range(len(tensors(step.type_signature.parameter))))
    changing = differing(unflatten(step.type_signature.parameter, leaves)[0], step.function.passed_on()["model"])
    if any(changing[str(part)] != set(struct_of(field).names) for part, field in struct_of(state["model"]).fields):
        step = server_step(changing)

    @federated_computation(state, report["update"], _COUNT)
    def server_update(state: Any, average: Any, used: Any) -> Any:
        before = Struct(zip(slots.names, list(state.optimizer_state)[1:], strict=True))
        after = step(state.model, before, average, used)
        counted = count_round(state.optimizer_state[0], after.changed)
        optimizer_state = Struct(zip(kind.names, [counted, *after.slots], strict=True))
        return Struct.of(state=Struct.of(model=after.model, optimizer_state=optimizer_state), changed=after.changed)

    return server_update
