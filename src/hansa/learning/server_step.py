"""The server's step: a finalizer takes the state and the aggregate to the next state, unless that would spoil it."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp

from hansa.language.computation import Computation
from hansa.language.computations import LocalComputation
from hansa.language.local import is_wide, tensors, to_struct, unflatten
from hansa.language.tracing import federated_computation, jax_computation, narrow_computation, wide_computation
from hansa.learning.finalizers import Finalizer
from hansa.learning.fixed import Names, differing, only
from hansa.learning.screening import stays_finite, struct_of
from hansa.models.weights import ModelWeights
from hansa.types import FederatedType, Struct, StructType, TensorType, Type, infer_type

_COUNT = TensorType("int64")
_FLAG = TensorType("bool")


def server_update_of(finalizer: Finalizer, state: StructType, total: Type) -> Computation:
    """(state, the aggregator's result, number of clients in it) -> the weights that are new in the next state, the rest
    of it that a finalizer may change, and whether it is another.

    It is the same where there is no client, and where a step from finite numbers would give NaN or infinity.

    Args:
        finalizer: what takes the state to the next one.
        state: the type of the server's state, without that of an aggregator.
        total: the type of the aggregator's result.

    Raises:
        TypeError: if the finalizer does not take this result, or gives no such state; the message names the types.
    """
    total = total.member if isinstance(total, FederatedType) else total
    kind = state["optimizer_state"]
    assert isinstance(kind, StructType)
    slots = StructType(kind.fields[1:])
    more = [(name, field) for name, field in state.fields if name in ("finalizer", "hparams")]
    given = StructType([("model", state["model"]), ("slots", slots), *more])
    keeps = [name for name in ("model", "slots", "finalizer") if name in given.names]

    @jax_computation(_COUNT, _FLAG)
    def count_round(rounds: Any, changed: Any) -> Any:
        return rounds + changed

    local = wide_computation if finalizer.wide or is_wide(state["model"]) else narrow_computation

    def server_step(changing: Names | None) -> Computation:
        @local(given, total, _COUNT)
        def step(before: Any, total: Any, used: Any) -> Any:
            weights = ModelWeights.create(before.model.trainable, before.model.non_trainable)
            found = finalizer.apply(before._replace(model=weights), total, used.astype(jnp.int32))
            after = _checked(found, before)
            new, old = ({name: each[name] for name in keeps} for each in (after, before))
            if changing is not None:
                new, old = ({**each, "model": only(each["model"], changing)} for each in (new, old))
            changed = (used > 0) & stays_finite(new, old)
            return {**jax.tree.map(lambda a, b: jnp.where(changed, a, b), new, old), "changed": changed}

        return cast(Computation, step)

    step = server_step(None)
    assert isinstance(step, LocalComputation) and step.type_signature.parameter is not None
    leaves = list(range(len(tensors(step.type_signature.parameter))))
    before = unflatten(step.type_signature.parameter, leaves)[0].model
    changing = differing(before, step.function.passed_on()["model"])
    if any(changing[str(part)] != set(struct_of(field).names) for part, field in struct_of(state["model"]).fields):
        step = server_step(changing)

    @federated_computation(state, total, _COUNT)
    def server_update(state: Any, total: Any, used: Any) -> Any:
        own = Struct(zip(slots.names, list(state.optimizer_state)[1:], strict=True))
        before = Struct([("model", state.model), ("slots", own), *((name, state[name]) for name, _ in more)])
        after = step(before, total, used)
        counted = count_round(state.optimizer_state[0], after.changed)
        optimizer_state = Struct(zip(kind.names, [counted, *after.slots], strict=True))
        parts = [("model", after.model), ("optimizer_state", optimizer_state)]
        parts += [("finalizer", after.finalizer)] if "finalizer" in keeps else []
        return Struct.of(state=Struct(parts), changed=after.changed)

    return server_update


def _checked(after: Any, before: Struct) -> Any:
    """The state that a finalizer gives, if it has the type of the one that it takes."""
    after = to_struct(after, "the finalizer")
    expected, found = infer_type(before), infer_type(after)
    if not expected.is_assignable_from(found):
        raise TypeError(
            f"the finalizer must give the state that it takes, {expected.compact()}; it gives {found.compact()}. "
            "Change some fields with state._replace(model=…)"
        )
    return after
