"""`ClientWork`: what clients do in a round, as a part of a process that is put together with others.

`local_training` makes one; this file says what one is, so that others can be written, and what a client is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp

from hansa._tracebacks import boundaries
from hansa.language.computation import Computation
from hansa.learning.hparams import Hparams, checked_hparams
from hansa.learning.keys import KEY
from hansa.learning.weighting import AnyWeighting
from hansa.models.accumulators import type_of
from hansa.models.model import FunctionalModel
from hansa.models.weights import ModelWeights
from hansa.privacy.sampled_steps import DPSGD
from hansa.types import SequenceType, Struct, StructType, TensorType, Type, infer_type
from hansa.types.members import members

_EMPTY = StructType([])
NOISE_KEY = TensorType("uint32", (8,))
"""The type of the key of a client's noise."""


class Given(NamedTuple):
    """The types of what a client is given in a round, besides its batches.

    Attributes:
        sent: what the server sends.
        own: what the client keeps from round to round, `<>` if nothing.
        hparams: the hyper-parameters, `<>` if there are none.
        scheduled: whether its steps are multiplied by a factor.
        noised: whether it draws noise, of a key of its own.
        numbered: whether it is told its number.
    """

    sent: Type
    own: Type = _EMPTY
    hparams: Type = _EMPTY
    scheduled: bool = False
    noised: bool = False
    numbered: bool = False

    @property
    def type(self) -> StructType:
        """`<sent,own,hparams,key,factor,noise,client>`: but for `sent` and `key` only what there is."""
        parts: list[tuple[str, Type]] = [
            ("sent", self.sent),
            ("own", self.own),
            ("hparams", self.hparams),
            ("key", KEY),
        ]
        if self.scheduled:
            parts.append(("factor", TensorType("float32")))
        if self.noised:
            parts.append(("noise", NOISE_KEY))
        if self.numbered:
            parts.append(("client", TensorType("int32")))
        return StructType([(name, kind) for name, kind in parts if kind != _EMPTY])


def whole(at: Any) -> Struct:
    """What hooks see of what a client is given: `sent`, `own`, `hparams` and `seen`, also where one is missing, and
    `client` where it is told its number."""
    there = dict(at._items())
    told = [("client", there["client"])] if "client" in there else []
    return Struct([*((name, there.get(name, Struct())) for name in ("sent", "own", "hparams", "seen")), *told])


@dataclass(frozen=True)
class LocalWork:
    """The client work of one model, as a computation.

    Attributes:
        model: the model that is trained; its batches are the clients' data, and its metrics those of a round.
        run: `(<at=A,data=B*> -> R)` without placements, where A is `given.type` and B `model.batch_type`. So it may be
            mapped over clients, after or before other computations, or over data at the server. Its result has the
            fields

            - `update`: any struct of arrays, for the aggregator; zeros for a client that is left out.
            - `weight`: a number, 0 for a client that is left out.
            - `outputs`: what the model's metrics take of a client.
            - `used`: int64, 1 if the client has a part in the round, else 0.
            - `counts`: for the counters of clients that are left out (`hansa.learning.screening.counters`).
            - `own`: what the client keeps, if it keeps anything.
        given: the types of what it is given.
        optimizer: what the clients' optimizer is called, for people.

    Examples:
        >>> process = hansa.learning.build_process(model, client_work=hansa.learning.local_training())
        >>> work = process.client_work
        >>> batch = hansa.Struct.of(x=x[:2], y=y[:2])
        >>> report = work.run({"sent": {"model": model.initial_weights}, "key": np.zeros(2, np.uint32)}, [batch])
        >>> int(report.used), int(report.weight), report.update.trainable["dense/bias"].shape
        (1, 2, (10,))
    """

    model: FunctionalModel
    run: Computation
    given: Given
    optimizer: str = "none"


Kept: TypeAlias = Struct | Mapping[str, Any] | Callable[[ModelWeights], Any] | None
"""What is kept from round to round, as it is at first: a struct, or a function of the model's initial weights."""


def first_kept(given: Kept, weights: ModelWeights, what: str) -> Struct:
    """What is kept at first, as a struct.

    Raises:
        TypeError: if it is no struct.
    """
    return as_struct(given(weights) if callable(given) else given, what)


def model_of(state: Struct) -> Any:
    """What clients are sent unless an algorithm says otherwise: the model."""
    return {"model": state.model}


@boundaries
@dataclass(frozen=True)
class ClientWork:
    """What clients do in a round.

    Args:
        create: from the model of the process and the types of what a client is given to the `LocalWork`.
        sent: from the server's state to what each client is sent, a struct. The state has the fields `model`,
            `optimizer_state`, and, where there are any, `finalizer` and `hparams`.
        own: what a client keeps that has never taken part, or a function of the model's initial weights that gives it;
            by default clients keep nothing.
        hparams: hyper-parameters that hooks read as `at.hparams`, by name, with their first values: numbers, or
            `hansa.learning.Hparam`s, which have bounds.
        schedule: from the number of a round to the factor of the clients' steps.
        personal: from `at`, with `sent`, `own` and `hparams`, to the weights that a client is evaluated with; by
            default those of `state.model`.
        survey: client work that all clients of a round do before, on the same batches. The mean of its updates, by its
            weights, is `state.survey` for `sent` and for the finalizer. It keeps nothing.
        weighting: what was said of the clients' weights, `client_weighting`; None if nothing was.
        privacy: how it adds noise for each example of a client; None if it does not. All that the `LocalWork` reports
            but `outputs` must then be made of noised gradients, and of the number of examples.
        numbered: whether a client is told its number, that of `hansa.federated_client_id`; the server's own work is
            told -1.

    Examples:
        >>> work = hansa.learning.local_training(client_optimizer="sgd", client_learning_rate=0.1)
        >>> process = hansa.learning.build_process(model, client_work=work)
        >>> print(process.client_work.run.type_signature.result["weight"])
        int32
    """

    create: Callable[[FunctionalModel, Given], LocalWork]
    sent: Callable[[Struct], Any] = field(default_factory=lambda: model_of)
    own: Kept = None
    hparams: Hparams = field(default_factory=dict)
    schedule: Callable[[Any], Any] | None = None
    personal: Callable[[Struct], Any] | None = None
    survey: ClientWork | None = None
    weighting: AnyWeighting = None
    privacy: DPSGD | None = None
    numbered: bool = False

    def __post_init__(self) -> None:
        checked_hparams(self.hparams)


def as_struct(value: Any, what: str) -> Struct:
    """A value as a struct of arrays; None for none.

    Raises:
        TypeError: if it is no struct.
    """
    if value is None:
        return Struct()
    found = members(value)
    if found is None:
        raise TypeError(f"{what}, must be a struct of arrays by name, such as {{'control': …}}; found {value!r}")
    return cast(Struct, _struct(value))


def _struct(value: Any) -> Any:
    found = members(value)
    if found is None:
        return value
    pairs = [(name, _struct(part)) for name, part in zip(found.names, found.values, strict=True)]
    return (type(value) if isinstance(value, Struct) else Struct)(pairs)


def alike(found: Any, like: Any, says: str) -> Any:
    """A struct of arrays, if it has the names, shapes and dtypes of another."""
    kinds = [[(leaf.shape, leaf.dtype) for leaf in map(jnp.asarray, jax.tree.leaves(each))] for each in (found, like)]
    names = [_names(each) for each in (found, like)]
    if kinds[0] != kinds[1] or names[0] != names[1]:
        raise TypeError(f"{says}, of type {infer_type(like).compact()}; found {infer_type(found).compact()}")
    return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(found))


def _names(value: Any) -> Any:
    return [(name, _names(part)) for name, part in value._items()] if isinstance(value, Struct) else None


def batches_of(model: FunctionalModel) -> SequenceType:
    """The type of a client's data."""
    return SequenceType(model.batch_type)


def type_of_own(own: Struct) -> Type:
    """The type of what a client keeps."""
    return type_of(own) if len(own) else _EMPTY
