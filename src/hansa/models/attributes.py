"""Objects of the user's that run with attributes of their own for a while, and are afterwards as they were.

A copy of an object is another object: a learning rate that is a function of `optimizer.iterations` would still ask the
first one. So the object itself runs, and what running changes of it, such as the lists that building fills, is a copy.
"""

from __future__ import annotations

import copy
import functools
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any

_LOCK = threading.RLock()
_LIBRARIES = ("jax", "jaxlib", "keras", "numpy", "tensorflow")
_PYTHON = ("builtins", "collections", "functools", "threading")


@dataclass(frozen=True)
class Attributes:
    """Attributes that objects may have instead of their own.

    Attributes:
        of: each object, with its attributes by name.
    """

    of: list[tuple[Any, dict[str, Any]]]

    @staticmethod
    def taken(objects: Iterable[Any]) -> Attributes:
        """The attributes that objects have now."""
        return Attributes([(value, vars(value)) for value in objects]).copied()

    def copied(self) -> Attributes:
        """The same attributes in containers of their own."""
        return Attributes(_copied(self.of, {}))

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """For as long as it lasts, the objects have these attributes, and what is done to them is done to these."""
        with _LOCK:
            own = [(value, vars(value)) for value, _ in self.of]
            try:
                _set(self.of)
                yield
            finally:
                _set(own)

    @contextmanager
    def in_a_step(self) -> Iterator[None]:
        """As `in_use`, of a copy, for what is compiled once and run many times.

        Raises:
            TypeError: if an attribute has another number, text or array afterwards, which the next run would not see.
        """
        after = self.copied()
        with after.in_use():
            yield
        for (value, old), (_, new) in zip(self.of, after.of, strict=True):
            for name, part in new.items():
                if not _is_kept(old.get(name, getattr(type(value), name, None)), part):
                    raise TypeError(
                        f"the Keras optimizer {type(value).__name__} changes its attribute {name!r} in a step, which "
                        "is compiled once: keep the value in a variable, which the constructor or build makes with "
                        f"self.{name} = self.add_variable(shape, name={name!r}), and change it by assign"
                    )


def _is_kept(old: Any, new: Any) -> bool:
    if isinstance(old, bool | int | float | str):
        return new is old or bool(new == old)
    if isinstance(old, dict) and isinstance(new, dict) and any(not _is_kept(old[key], new.get(key)) for key in old):
        return False
    before = {id(array) for array in _arrays(old)}
    return all(id(array) in before for array in _arrays(new))


def _arrays(value: Any) -> list[Any]:
    """The arrays and tensors in lists and dicts, which are no variables."""
    if isinstance(value, list | tuple | dict):
        return [found for part in _parts(value) for found in _arrays(part)]
    return [value] if hasattr(value, "shape") and not hasattr(value, "assign") else []


def _set(pairs: list[tuple[Any, dict[str, Any]]]) -> None:
    for value, attributes in pairs:
        object.__setattr__(value, "__dict__", attributes)


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """Lists, dicts and sets copied, whatever they are in; all other objects are the same ones."""
    if id(value) in memo:
        return memo[id(value)]
    kind: Any = type(value)
    if kind is tuple:
        return tuple(_copied(part, memo) for part in value)
    if hasattr(value, "stored_ids") or hasattr(value, "_storage"):  # Keras's and TensorFlow's records of variables
        new = memo[id(value)] = copy.copy(value)
    elif issubclass(kind, list | dict | set):
        new = memo[id(value)] = kind.__new__(kind)
        if hasattr(value, "__dict__"):
            vars(new).update(dict.fromkeys(vars(value)))  # nothing records what is put in
        if isinstance(value, dict):
            new.update({key: _copied(part, memo) for key, part in value.items()})
        else:
            fill = new.extend if isinstance(value, list) else new.update
            fill([_copied(part, memo) for part in value])
    else:
        return value
    if hasattr(value, "__dict__"):
        vars(new).update({name: _copied(part, memo) for name, part in vars(value).items()})
    return new


def reachable(value: Any, of: Callable[[Any], bool], without: Callable[[str], bool] = lambda name: False) -> list[Any]:
    """The objects of a kind that an object is, holds in its attributes, or refers to in a function of the user's.

    Args:
        value: the object.
        of: whether an object is of the kind. Those are looked into, while other objects of Keras's are not.
        without: whether an attribute of `value` is left out, by its name.
    """
    seen: dict[int, Any] = {id(value): value}
    found = [value] if of(value) else []
    todo = [part for name, part in vars(value).items() if not without(name)]
    for part in todo:  # which grows
        if id(part) in seen:
            continue
        seen[id(part)] = part
        if of(part):
            found.append(part)
        todo += vars(part).values() if of(part) else _parts(part)
    return found


def is_of_users(value: Any) -> bool:
    """Whether an object is a function of the user's, or has attributes and a class of the user's."""
    kind = value if isinstance(value, FunctionType) else type(value)
    return hasattr(value, "__dict__") and str(kind.__module__).split(".")[0] not in (*_LIBRARIES, *_PYTHON)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, FunctionType):
        return [] if str(value.__module__).split(".")[0] in _LIBRARIES else _referred(value)
    if isinstance(value, type | ModuleType) or hasattr(value, "shape") or hasattr(value, "_obj_type"):
        return []  # classes, modules, arrays, variables; layers and models
    return list(getattr(value, "__dict__", {}).values())


def _referred(function: FunctionType) -> list[Any]:
    try:
        found = inspect.getclosurevars(function)
    except ValueError:  # it refers to a name that has no value yet
        return []
    return [*found.nonlocals.values(), *found.globals.values()]
