"""Functions of TensorFlow that read and assign variables, as functions of the variables' values."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hansa.language.tensorflow import TensorFlowFunction, import_tensorflow, user_line
from hansa.types import Struct, TensorType
from hansa.types.aligned import settled


class Group:
    """Variables by name, whose values are a struct.

    Args:
        variables: from their names to `tf.Variable`s, in the order of the struct.
    """

    def __init__(self, variables: dict[str, Any]) -> None:
        self.variables = variables
        self._references = {variable.ref() for variable in variables.values()}

    def __contains__(self, variable: Any) -> bool:
        return variable.ref() in self._references

    def initial(self) -> Struct:
        """The values that the variables have now."""
        return Struct((name, settled(np.asarray(variable.numpy()))) for name, variable in self.variables.items())

    def values(self, struct: Struct) -> dict[Any, Any]:
        """The values of a struct, by variable."""
        return {variable.ref(): struct[name] for name, variable in self.variables.items()}

    def updated(self, struct: Struct, values: dict[Any, Any]) -> Struct:
        """The struct with the values of the variables that were assigned."""
        return Struct((name, values.get(variable.ref(), struct[name])) for name, variable in self.variables.items())


class VariableFunction:
    """A function of tensors that reads and assigns variables, as a function of their values.

    The optimizers in it may make variables of their own where it runs for the first time, as TensorFlow's do. They and
    all other variables that the function uses and that are in none of the groups are its `slots`.

    Args:
        function: takes the tensors; see `TensorFlowFunction`.
        types: the tensors'.
        name: what messages call it.
        groups: the variables that are passed to it.
        keeps_slots: whether it may assign variables that are in none of the groups.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        types: Sequence[TensorType],
        name: str,
        groups: Sequence[Group],
        keeps_slots: bool = False,
    ) -> None:
        self._name, self._groups, self._keeps_slots = name, groups, keeps_slots
        self._made: list[Any] = []

        def traced(*leaves: Any) -> Any:
            with import_tensorflow(name).variable_creator_scope(_Maker(name, self._made, keeps_slots)):
                return function(*leaves)

        own = [variable for group in groups for variable in group.variables.values()]
        self._lowered = TensorFlowFunction(traced, types, name, lambda: [*own, *self._made])
        self._slots: Group | None = None

    @property
    def slots(self) -> Group:
        """The variables that are in none of the groups."""
        if self._slots is None:
            own = [v for v in self._lowered.variables if not any(v in group for group in self._groups)]
            assigned = {variable.ref() for variable in self._lowered.assigned}
            foreign = [v for v in own if v.ref() in assigned and not is_random_state(v)]
            if foreign and not self._keeps_slots:
                raise TypeError(
                    f"{self._name} assigns the variable {plain_name(foreign[0])!r}, which is in none of "
                    "trainable_variables, non_trainable_variables and local_variables; return it from one of them"
                )
            self._slots = Group(named(own))
        return self._slots

    def __call__(self, leaves: Sequence[Any], structs: Sequence[Struct], slots: Struct, key: Any) -> tuple[Any, Any]:
        """The function's results, and all groups' structs and the slots as it leaves them."""
        groups, given = [*self._groups, self.slots], [*structs, slots]
        values: dict[Any, Any] = {}
        for group, struct in zip(groups, given, strict=True):
            values |= group.values(struct)
        for i, variable in enumerate(v for group in groups for v in group.variables.values()):
            if is_random_state(variable):
                bits = jax.random.bits(jax.random.fold_in(key, i), tuple(variable.shape), np.uint32)
                values[variable.ref()] = bits.astype(variable.dtype.as_numpy_dtype)
        results, updates = self._lowered(leaves, values, jax.random.fold_in(key, len(values)))
        assigned = {variable.ref(): value for variable, value in updates if not is_random_state(variable)}
        return results, [group.updated(struct, assigned) for group, struct in zip(groups, given, strict=True)]


class _Maker:
    """Makes the variables that a function asks for while it is traced: the same ones each time."""

    def __init__(self, name: str, made: list[Any], allowed: bool) -> None:
        self._name, self._made, self._allowed = name, made, allowed
        self._next = 0

    def __call__(self, next_creator: Any, **arguments: Any) -> Any:
        frames = traceback.extract_stack()
        if not self._allowed or not _by_an_optimizer(frames):
            raise TypeError(
                f"{self._name} makes the variable {arguments.get('name') or 'Variable'!r} at {user_line(frames[:-1])}: "
                "a model makes its variables in its constructor, and its methods only read and assign them"
            )
        if self._next == len(self._made):
            self._made.append(self._make(**arguments))
        self._next += 1
        return self._made[self._next - 1]

    def _make(self, initial_value: Any, dtype: Any = None, name: str | None = None, **_: Any) -> Any:
        tf = import_tensorflow(self._name)
        with tf.init_scope():
            value = initial_value() if callable(initial_value) else initial_value
            static = tf.get_static_value(value)
            if static is None:
                raise TypeError(f"{self._name} makes the variable {name!r}, whose initial value depends on the data")
        with ThreadPoolExecutor(1) as outside:  # another thread is outside of what is being traced
            return outside.submit(tf.Variable, static, trainable=False, dtype=dtype, name=name).result()


def _by_an_optimizer(frames: Sequence[Any]) -> bool:
    """Whether the code that was called last by the user's is an optimizer's."""
    for frame in reversed(frames[:-1]):
        path = frame.filename.split(os.sep)
        if "tensorflow" not in path and "keras" not in path:
            return False
        if any(part in path[-1] for part in ("optimizer", "slot_creator")):
            return True
    return False


def is_random_state(variable: Any) -> bool:
    """Whether a variable is the state of a random generator, which differs from client to client."""
    name = plain_name(variable)
    return name.startswith("StateVar") or name.endswith("seed_generator_state")


def plain_name(variable: Any) -> str:
    """The name of a variable without the number of its output."""
    return str(variable.name).split(":")[0]


def named(variables: Sequence[Any]) -> dict[str, Any]:
    """Variables by name; several of one name are numbered."""
    found: dict[str, Any] = {}
    for variable in variables:
        name, i = plain_name(variable), 1
        while name in found:
            name, i = f"{plain_name(variable)}_{i}", i + 1
        found[name] = variable
    return found


FACTOR = TensorType("float32")
"""The type of what a loss is multiplied by before gradients are taken."""


def factor_of(scale_loss: Callable[[Any], Any] | None) -> Any:
    """What a function that scales losses multiplies them by."""
    one = jnp.float32(1)
    return one if scale_loss is None else jnp.asarray(scale_loss(one), jnp.float32)


def with_gradients(function: Callable[[], dict[str, Any]], variables: Sequence[Any], factor: Any) -> dict[str, Any]:
    """What a function returns, with the `gradients` of `factor` times its `loss` by variables, as TensorFlow takes
    them."""
    tf = import_tensorflow("a gradient")
    with tf.GradientTape() as tape:
        tape.watch(variables)
        found = function()
        loss = found["loss"] * tf.cast(factor, found["loss"].dtype)
    gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return found | {"gradients": [tf.convert_to_tensor(gradient) for gradient in gradients]}


def scalar_loss(loss: Any, what: str) -> Any:
    """A loss, which must be a scalar float."""
    if loss is None or tuple(loss.shape) != () or not jnp.issubdtype(np.dtype(loss.dtype.as_numpy_dtype), np.floating):
        found = "None" if loss is None else f"{loss.dtype.name}{list(loss.shape)}"
        raise TypeError(f"the loss of {what} must be a scalar float, such as the mean over the batch; found {found}")
    return loss
