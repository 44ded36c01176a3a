"""Rules whose clients send messages of a codec: the server decodes each, or, if the code is linear, their sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from hansa.aggregators.aggregation import Aggregation
from hansa.aggregators.codecs.codec import Codec, ValueCodec, flat, in_single
from hansa.aggregators.factory import Factory, check_factory
from hansa.aggregators.rows import OfRows
from hansa.aggregators.states import nested, nothing, parts, state_around, state_within
from hansa.aggregators.sums import Adding, mean
from hansa.aggregators.turns import KEY, Turns
from hansa.aggregators.writing import aggregation, counted
from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.each import federated_stack
from hansa.language.local import tensors
from hansa.language.tracing import federated_computation, narrow_computation
from hansa.templates import MeasuredOutput
from hansa.types import CLIENTS, SERVER, FederatedType, Struct, StructType, TensorType, Type

Keeps = Literal["clients", "server", "nobody"]

_FLOAT, _INT = TensorType("float32"), TensorType("int32")


def compressed(codec: Codec, inner: Factory | None = None, *, error_feedback: bool = False, seed: int = 0) -> Factory:
    """Clients send the messages of a codec, and another rule takes what is decoded of them.

    If the code is linear, the other rule takes the messages, and the server decodes once what it makes of them. Else
    the server decodes one message after another, as it adds them up, or all of them for a rule of all values.

    With error feedback (Seide et al. 2014; Stich et al. 2018, arXiv:1809.07599, Algorithm 1; Karimireddy et al. 2019,
    arXiv:1901.09847, Algorithm 2) a client keeps e, what the messages have left out so far. It sends the message of
    v + e, and what is decoded of it is subtracted from that to be the next e. A client that is left out keeps its e.

    Args:
        codec: what encodes clients' values: one of `hansa.aggregators.codecs`, or one of your own.
        inner: the rule that takes what is decoded; by default `mean()`. Of a code that is not linear: a mean, a sum, or
            a rule of all clients' values such as `median()`.
        error_feedback: whether clients keep what was left out. It is a vector of the size of the value at each.
        seed: the root of the codec's draws. The rounds in which somebody was counted are folded into it, and each
            client's number.

    Returns:
        A rule for values of float dtypes. It needs what the inner one needs, if the code is linear, and else each
        client's message.

    Raises:
        TypeError: if an argument is not what is said above.

    Examples:
        >>> codecs = hansa.aggregators.codecs
        >>> rule = hansa.aggregators.compressed(codecs.top_k(0.5), error_feedback=True)
        >>> aggregation = rule("float32[4]")
        >>> print(aggregation.state_type)
        <server=<>@SERVER,clients={<error=float32[4]>}@CLIENTS>
        >>> state, result, _ = aggregation.next(aggregation.initialize(), [[4.0, 3.0, 2.0, 1.0]], [1.0])
        >>> np.asarray(result), np.asarray(state.clients[0].error)
        (array([4., 3., 0., 0.], dtype=float32), array([0., 0., 2., 1.], dtype=float32))
    """
    return compressing(codec, inner, "clients" if error_feedback else "nobody", seed, {})


def compressing(
    codec: Codec, inner: Factory | None, keeps_error: Keeps, seed: int, settings: Mapping[str, object]
) -> Factory:
    """The rule of a codec. What is left out is kept by "clients", by the "server" (of a linear code), or "nobody"."""
    if not isinstance(codec, Codec):
        raise TypeError(f"compressed takes a codec of hansa.aggregators.codecs, such as quantised(), found {codec!r}")
    inside = mean() if inner is None else check_factory(inner, f"hansa.aggregators.{codec.name}")
    if not codec.is_linear and not isinstance(inside, Adding | OfRows):
        raise TypeError(
            f"the server decodes the messages of {codec.name}, so inside of it there can be a mean, a sum, or a rule "
            f"of all clients' values such as median(), found {inside!r}; put {codec.name} inside of that rule"
        )

    def create(value: Type, weight: Type) -> Aggregation:
        return _Compression(codec, inside, keeps_error, seed, value, weight).aggregation()

    feedback = {} if keeps_error == "nobody" else {"error_feedback": True}
    given = {"inner": inside, **codec.settings, **feedback, **({"seed": seed} if seed else {}), **settings}
    return Factory(codec.name, create, given)


class _Combined(NamedTuple):
    """What comes of the clients' messages, all at the server.

    Attributes:
        result: the value.
        number: how many clients were counted, or the sum of their weights.
        inner: the state of the rule inside.
        measurements: those of the rule inside.
        own: further fields of the state.
    """

    result: Any
    number: Any
    inner: Any
    measurements: Any
    own: dict[str, Any]


class _Compression:
    """The aggregation of values of one type by a codec."""

    def __init__(self, codec: Codec, inside: Factory, keeps_error: Keeps, seed: int, value: Type, weight: Type) -> None:
        self._codec, self._inside, self._keeps = codec, inside, keeps_error
        self._kind, self._weight = value, weight
        self._coded = ValueCodec(codec, value)
        self._turns = None if codec.draws == "nothing" else Turns(codec.name, seed)
        self._within: Aggregation | None = None
        if codec.is_linear:
            self._within = inside(self._coded.message, weight)
            FederatedType(self._coded.message, SERVER).check_assignable_from(
                self._within.result_type, what=f"the result of {inside!r}, of which {codec.name} is decoded,"
            )

    def aggregation(self) -> Aggregation:
        """It."""
        return aggregation(self._initialize(), self._step, self._kind, self._weight)

    def _initialize(self) -> Computation:
        zeros = np.zeros(self._coded.size, np.float32)

        @federated_computation
        def initialize() -> Any:
            own = {} if self._turns is None else {"rounds": self._turns.first()}
            if self._keeps == "server":
                own["error"] = on.federated_value(_zeros(self._coded.message), SERVER)
            kept = {"error": on.federated_value(zeros, CLIENTS)} if self._keeps == "clients" else {}
            inner = nothing() if self._within is None else self._within.initialize()
            return state_around(own, self._inside.name, inner, kept)

        return cast(Computation, initialize)

    def _step(self, state: Any, values: Any, weights: Any) -> MeasuredOutput:
        server, own = parts(state)
        of_each = counted(values, weights)
        no_key = np.zeros(2, np.uint32)
        if self._turns is None:
            key, at_clients = on.federated_value(no_key, SERVER), on.federated_value(no_key, CLIENTS)
        else:
            key = self._turns.key(server.rounds)
            shared = self._codec.draws == "shared"
            at_clients = on.federated_broadcast(key) if shared else on.federated_client_key(key)
        message, kept = self._sent(of_each, at_clients, own)
        if self._within is not None:
            combined = self._of_sum(state, server, message, of_each, key)
        elif isinstance(self._inside, OfRows):
            combined = self._of_rows(message, of_each)
        else:
            combined = self._one_by_one(message, of_each)
        after = dict(combined.own)
        if self._turns is not None:
            after = {"rounds": self._turns.after(server.rounds, combined.number), **after}
        return MeasuredOutput(
            state_around(after, self._inside.name, combined.inner, kept), combined.result, combined.measurements
        )

    def _sent(self, of_each: Any, key: Any, own: Any) -> tuple[Any, dict[str, Any]]:
        """Each client's message, and what it keeps."""
        if self._keeps != "clients":
            return on.federated_map(self._coded.encode, [of_each.value, key]), {}
        error = TensorType("float32", (self._coded.size,))

        @narrow_computation(self._kind, _INT, KEY, error)
        def encode(value: Any, one: Any, key: Any, error: Any) -> Any:
            meant = flat(value) + error
            message = self._codec.encode(meant, jax.random.wrap_key_data(key))
            left = meant - self._coded.vector_of(message, key)
            return {"message": message, "error": jnp.where(one > 0, left, error)}

        done = on.federated_map(encode, [of_each.value, of_each.one, key, own.error])
        return done.message, {"error": done.error}

    def _one_by_one(self, message: Any, of_each: Any) -> _Combined:
        """Messages are decoded as they are added up."""
        inside = cast(Adding, self._inside)
        size = self._coded.size
        factor = inside.factor_of(of_each)
        state = StructType([("sum", TensorType("float32", (size,))), ("factor", _FLOAT)])
        given = StructType([("message", self._coded.message), ("factor", factor.type_signature.member)])

        @narrow_computation(state, given)
        def accumulate(state: Any, given: Any) -> Any:
            factor = given.factor.astype(jnp.float32)
            decoded = jnp.where(factor > 0, self._coded.vector_of(given.message), 0)
            return {"sum": state.sum + factor * decoded, "factor": state.factor + factor}

        @narrow_computation(state, state)
        def merge(one: Any, other: Any) -> Any:
            return {"sum": one.sum + other.sum, "factor": one.factor + other.factor}

        @narrow_computation(state)
        def report(state: Any) -> Any:
            total = state.factor if inside.divisor is None else jnp.float32(inside.divisor)
            vector = inside.finished(state.sum / jnp.where(total > 0, total, 1))
            return {"vector": vector, "number": (state.factor > 0).astype(jnp.int32)}

        zero = narrow_computation()(lambda: {"sum": jnp.zeros(size, jnp.float32), "factor": jnp.float32(0)})
        both = on.federated_zip({"message": message, "factor": factor})
        done = on.federated_aggregate(both, zero(), accumulate, merge, report)
        as_value = in_single(self._kind, TensorType("float32", (size,)))(lambda vector: vector)
        return _Combined(on.federated_map(as_value, done.vector), done.number, nothing(), nothing(), {})

    def _of_rows(self, message: Any, of_each: Any) -> _Combined:
        """All messages are decoded, for a rule of all values."""
        rule = cast(OfRows, self._inside).rule
        rows = federated_stack(on.federated_zip({"message": message, "one": of_each.one}))

        @in_single(self._kind, rows.type_signature.member)  # type: ignore[attr-defined]
        def result(rows: Any) -> Any:
            return rule(Struct.of(value=jax.vmap(self._coded.vector_of)(rows.message), one=rows.one))

        number = on.federated_sum(of_each.one)
        return _Combined(on.federated_map(result, rows), number, nothing(), nothing(), {})

    def _of_sum(self, state: Any, server: Any, message: Any, of_each: Any, key: Any) -> _Combined:
        """The rule inside takes the messages of a linear code, and its result is decoded."""
        within = cast(Aggregation, self._within)
        name = self._inside.name
        then = within.next(state_within(state, name, within.state_type), message, of_each.weight)
        measurements = nested({}, name, then.measurements)
        number = on.federated_sum(of_each.one)
        total, own = then.result, {}
        if self._keeps == "server":
            add = narrow_computation(self._coded.message, self._coded.message)(_added)
            total = on.federated_map(add, [total, server.error])
        vector = on.federated_map(self._decoded(), [total, key])
        if self._keeps == "server":
            done = on.federated_map(self._left(), [total, server.error, vector, key, number])
            vector, own = done.vector, {"error": done.error}
        as_value = in_single(self._kind, TensorType("float32", (self._coded.size,)))(lambda vector: vector)
        return _Combined(on.federated_map(as_value, vector), number, then.state, measurements, own)

    def _decoded(self) -> Computation:
        @narrow_computation(self._coded.message, KEY)
        def decoded(message: Any, key: Any) -> Any:
            return self._coded.vector_of(message, key)

        return cast(Computation, decoded)

    def _left(self) -> Computation:
        """What the server keeps: the messages that it has had without those of what it has decoded; all where nobody
        was counted (FetchSGD: Rothchild et al. 2020, Algorithm 1)."""
        message, vector = self._coded.message, TensorType("float32", (self._coded.size,))

        @narrow_computation(message, message, vector, KEY, _INT)
        def left(total: Any, before: Any, vector: Any, key: Any, number: Any) -> Any:
            again = self._codec.encode(vector, jax.random.wrap_key_data(key))
            error = jax.tree.map(lambda x, y, z: jnp.where(number > 0, x - y, z), total, again, before)
            return {"vector": jnp.where(number > 0, vector, 0), "error": error}

        return cast(Computation, left)


def _added(one: Any, other: Any) -> Any:
    return jax.tree.map(jnp.add, one, other)


def _zeros(kind: Type) -> Struct:
    assert isinstance(kind, StructType)
    return Struct(
        (name, np.zeros(leaf.shape, leaf.dtype)) for name, leaf in zip(kind.names, tensors(kind), strict=True)
    )
