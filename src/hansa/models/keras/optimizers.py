"""Keras optimizers as pure functions: what `fit` does with the optimizer, before, in and after the steps.

It is the user's own object that runs, not a copy made from its configuration, so its class, its attributes, schedules
and functions are what the user made. It is built in attributes of its own (`attributes.py`) and called statelessly, so
the user's optimizer and its variables stay as they are.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from hansa._tracebacks import add_note
from hansa.models.attributes import Attributes, is_of_users, reachable
from hansa.models.optimizer import Optimizer, TrainedVariables
from hansa.models.optimizer_names import keras_name
from hansa.types import Struct


def from_keras(optimizer: Any, trained: TrainedVariables | None = None) -> Optimizer:
    """A Keras optimizer; its state is the list of its variables, in their order, without what it was trained with.

    A new state is that of a new optimizer: steps are counted from 0, and moments, averages of weights and the scale of
    the loss are what `build` makes of the weights. All else is as it was when the optimizer was given.

    Args:
        optimizer: the optimizer.
        trained: the Keras variables that the weights stand for, for constraints and for rules that go by a variable or
            its name; by default new ones, which have the names of the weights.
    """
    functions = _Stateless(optimizer, trained)
    parts = _optimizers(optimizer)
    ends = any(part.use_ema or _is_own(part, "finalize_variable_values", of_users=True) for part in parts)
    return Optimizer(
        functions.initial,
        functions.apply,
        wide=keras.backend.backend() != "jax",
        scale_loss=functions.scale_loss if _scales(optimizer) else None,
        finish=functions.finish if ends else None,
        projects=trained is not None,
        only_for_clients=_only_for_clients(optimizer, parts),
        name=keras_name(optimizer),
    )


def untouched(optimizer: Any) -> AbstractContextManager[None]:
    """Whatever is done to an optimizer in here, such as building it, is undone afterwards."""
    return Attributes.taken([] if optimizer is None else _optimizers(optimizer)).in_use()


def _optimizers(optimizer: Any) -> list[Any]:
    """An optimizer and those in it."""
    return reachable(optimizer, lambda value: isinstance(value, keras.Optimizer))


def _is_own(optimizer: Any, method: str, of_users: bool = False) -> bool:
    """Whether an optimizer has another method than Keras's base class, or another than all of Keras's classes."""
    found = getattr(optimizer, method)
    if of_users:
        return not str(getattr(found, "__module__", None)).startswith("keras.")
    return getattr(found, "__func__", found) is not getattr(keras.Optimizer, method)


def _scales(optimizer: Any) -> bool:
    return optimizer.loss_scale_factor is not None or _is_own(optimizer, "scale_loss")


def _only_for_clients(optimizer: Any, parts: list[Any]) -> str | None:
    name = type(optimizer).__name__
    if any(map(_scales, parts)):
        return (
            f"{name} scales the loss, and the server has none: give an optimizer without loss_scale_factor, such as "
            "the inner_optimizer of a LossScaleOptimizer"
        )
    if any(part.use_ema and not part.ema_overwrite_frequency for part in parts):
        return (
            f"{name} has use_ema=True without ema_overwrite_frequency: Keras puts the average in place of the weights "
            "when fit ends, and a process has no end; give ema_overwrite_frequency, after how many rounds the average "
            "becomes the model"
        )
    if any(_is_own(part, "finalize_variable_values", of_users=True) for part in parts):
        return f"{name} has a finalize_variable_values of its own, which is for the end of fit: a process has no end"
    return None


@dataclass(frozen=True)
class _Built:
    """An optimizer that is built for variables.

    Attributes:
        attributes: of it and of those in it.
        trained: the variables that it trains.
        state: its own variables.
        values: what these are before the first step.
        follows: whether the values depend on the weights.
        lowered: its functions, if JAX does not call them itself.
    """

    attributes: Attributes
    trained: TrainedVariables
    state: list[Any]
    values: list[Any]
    follows: bool = False
    lowered: Any = None


class _Stateless:
    """The functions of an optimizer, of values."""

    def __init__(self, optimizer: Any, trained: TrainedVariables | None) -> None:
        self._optimizer, self._trained = optimizer, trained
        parts = _optimizers(optimizer)
        self._excluded = [part for part in parts if getattr(part, "_exclude_from_weight_decay", None)]
        self._values = {id(variable): np.array(variable.value) for part in parts for variable in part.variables}
        self._values |= {id(part._iterations): np.zeros_like(self._values[id(part._iterations)]) for part in parts}
        self._used = (len(optimizer._trainable_variables), len(optimizer.variables)) if optimizer.built else None
        self._is_of_users = bool(reachable(optimizer, is_of_users))
        self._given = Attributes.taken(parts)
        for _, attributes in self._given.of:
            attributes |= {"built": False, "_trainable_variables_indices": {}, "_was_built": attributes["built"]}
        self._copies: dict[Any, _Built] = {}
        if trained is not None:
            self._built(None)

    def initial(self, weights: Any) -> Struct:
        built = self._built(weights)
        values = built.values
        if built.follows:
            values = self._build_of(_with_values(built.trained.variables, built.trained.values(weights)))
        return Struct((None, value) for value in values)

    def apply(self, state: Struct, gradients: Any, weights: Any) -> tuple[Struct, Any]:
        built = self._built(weights)
        given = list(state), built.trained.values(gradients), built.trained.values(weights)
        if built.lowered is not None:
            after, variables = built.lowered.apply(*given)
        else:
            with self._running(built):
                after, variables = self._optimizer.stateless_apply(*given)
        return Struct((None, variable) for variable in variables), built.trained.weights(after, weights)

    def scale_loss(self, state: Struct, weights: Any, loss: Any) -> Any:
        built = self._built(weights)
        if built.lowered is not None:
            return built.lowered.scale_loss(list(state), built.trained.values(weights), loss)
        with self._running(built), self._scope(built, state, weights):
            return self._optimizer.scale_loss(loss)

    def finish(self, state: Struct, weights: Any) -> Any:
        built = self._built(weights)
        if built.lowered is not None:
            return built.trained.weights(built.lowered.finish(list(state), built.trained.values(weights)), weights)
        with self._running(built), self._scope(built, state, weights) as scope:
            self._optimizer.finalize_variable_values(built.trained.variables)
        return built.trained.weights([scope.get_current_value(v) for v in built.trained.variables], weights)

    def _scope(self, built: _Built, state: Struct, weights: Any) -> Any:
        values = built.trained.values(weights)
        pairs = [*zip(built.state, state, strict=True), *zip(built.trained.variables, values, strict=True)]
        return keras.StatelessScope(state_mapping=pairs)

    @contextmanager
    def _running(self, built: _Built) -> Iterator[None]:
        with self._noted(), built.attributes.in_a_step():
            yield

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            add_note(error, f"in the Keras optimizer {type(self._optimizer).__name__} (name={self._optimizer.name!r})")
            raise

    def _built(self, weights: Any) -> _Built:
        key = None if self._trained is not None else _kinds(weights)
        if key not in self._copies:
            with jax.ensure_compile_time_eval(), self._noted():
                self._copies[key] = self._new(
                    self._trained or TrainedVariables.in_order(_stand_in(*kind) for kind in key or ())
                )
        return self._copies[key]

    def _new(self, trained: TrainedVariables) -> _Built:
        self._check_exclusions(trained.variables)
        with self._given.copied().in_use():
            # Added by NumPy, which does not compile an addition for each shape.
            other_values = [keras.ops.convert_to_tensor(np.array(v.value) + 1) for v in trained.variables]
            others = self._build(_with_values(trained.variables, other_values))
        with self._given.copied().in_use():
            values = self._build(list(trained.variables))
            state, attributes = self._optimizer.variables, Attributes.taken(_optimizers(self._optimizer))
        follows = not all(map(_are_equal, values, others))
        if keras.backend.backend() == "jax":
            built = _Built(attributes, trained, state, values, follows)
            if self._is_of_users:
                self._check_repeats(built)
            return built
        from hansa.models.keras.tensorflow import LoweredOptimizer

        if follows:
            raise TypeError(
                f"the Keras optimizer {type(self._optimizer).__name__} starts from the weights, which it has read when "
                "TensorFlow built it; run Keras on JAX (KERAS_BACKEND=jax), where each client's are read"
            )
        lowered = LoweredOptimizer(self._optimizer, trained.variables, state, attributes)
        return _Built(attributes, trained, state, values, follows, lowered)

    def _check_repeats(self, built: _Built) -> None:
        """Refuses steps that are others when they are traced again, for the compiled one is traced once."""
        weights = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in built.trained.variables]
        with built.attributes.in_a_step():  # which names an attribute that is another afterwards
            _traced(self._optimizer, built.values, weights)
        with built.attributes.copied().in_use():
            first, second = (_traced(self._optimizer, built.values, weights) for _ in range(2))
        if first != second:
            raise TypeError(
                f"the Keras optimizer {type(self._optimizer).__name__} takes another step when it is called again, and "
                "a step is compiled once: what it changes or draws in Python, such as a counter, a list or a number "
                "of numpy.random, would stay as it was. Keep it in a variable of add_variable and change it by assign, "
                "let the learning rate be a LearningRateSchedule of the step, and draw with keras.random and a "
                "SeedGenerator"
            )

    def _check_exclusions(self, variables: Sequence[Any]) -> None:
        for part in self._excluded:
            if not any(part._var_key(variable) in part._exclude_from_weight_decay for variable in variables):
                raise ValueError(
                    f"the Keras optimizer {type(part).__name__} excludes variables from weight decay, of which none "
                    "is a weight of this model: give exclude_from_weight_decay the model's own variables, or names "
                    "in var_names"
                )

    def _build_of(self, variables: list[Any]) -> list[Any]:
        """The values of the variables of an optimizer that is built of a client's weights."""
        try:
            with self._noted(), self._given.copied().in_use():
                return self._build(variables)
        except jax.errors.JAXTypeError as error:
            raise TypeError(
                f"the build of the Keras optimizer {type(self._optimizer).__name__} makes other variables of other "
                "weights, and takes them as NumPy arrays or numbers, which those of each client are not: use the "
                "functions of keras.ops, such as keras.ops.copy(variable)"
            ) from error

    def _build(self, variables: list[Any]) -> list[Any]:
        """Builds the optimizer, in the attributes that are in use, and returns the values of its variables."""
        optimizer = self._optimizer
        optimizer.build(variables)
        for part in _optimizers(optimizer):
            if vars(part).pop("_was_built", False):
                _forget_variables(part)
        if self._used is not None and self._used[0] == len(variables) and self._used[1] != len(optimizer.variables):
            raise ValueError(
                f"the Keras optimizer {type(optimizer).__name__} was used before, and would keep what it made then: "
                "give a new one"
            )
        kept = self._values
        return [kept[id(v)] if id(v) in kept else _value(v) for v in optimizer.variables]


def _traced(optimizer: Any, state: list[Any], weights: list[Any]) -> tuple[str, list[bytes]]:
    """What a step does, as text without addresses, and its constants."""
    found = jax.make_jaxpr(lambda *given: optimizer.stateless_apply(*given))(state, weights, weights)
    constants = [np.asarray(value).tobytes() for value in found.consts if not _is_key(value)]
    return re.sub(r" at 0x[0-9a-f]+", "", str(found.jaxpr)), constants


def _is_key(value: Any) -> bool:
    return bool(jnp.issubdtype(value.dtype, jax.dtypes.prng_key))


def _forget_variables(optimizer: Any) -> None:
    """Drops the variables of an earlier `build`, to which no attribute refers any more."""
    held = reachable(
        optimizer,
        lambda value: isinstance(value, keras.Variable),
        without=lambda name: name in ("_variables", "_tracker") or name.startswith("_self_"),
    )
    known = {id(variable) for variable in held}
    variables = vars(optimizer)["_variables"]
    variables[:] = [variable for variable in variables if id(variable) in known]


def _with_values(variables: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """Variables like others, with other values."""
    return [_with_value(variable, value) for variable, value in zip(variables, values, strict=True)]


def _with_value(variable: Any, value: Any) -> Any:
    new = copy.copy(variable)
    new._value = value if keras.backend.backend() == "jax" else type(variable.value)(value)
    return new


def _value(variable: Any) -> Any:
    """A variable's value: an array of NumPy's, or a tracer where it depends on one."""
    return variable.value if isinstance(variable.value, jax.core.Tracer) else np.array(variable.value)


def _are_equal(one: Any, other: Any) -> bool:
    return bool(one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes())


def _kinds(weights: Any) -> tuple[tuple[str, tuple[int, ...], str], ...]:
    """The name, shape and dtype of each weight."""
    leaves = jax.tree.leaves(weights)
    named = isinstance(weights, Struct) and len(weights) == len(leaves)
    names = weights._fields if named else [None] * len(leaves)
    return tuple(
        (str(name or "weight"), leaf.shape, np.dtype(leaf.dtype).name) for name, leaf in zip(names, leaves, strict=True)
    )


def _stand_in(name: str, shape: tuple[int, ...], dtype: str) -> Any:
    """A variable that has the name of a weight."""
    *scopes, own = [part for part in name.split("/") if part] or ["weight"]
    with ExitStack() as stack:
        for scope in scopes:
            stack.enter_context(keras.name_scope(scope))
        return keras.Variable(np.zeros(shape, dtype), dtype=dtype, name=own)
