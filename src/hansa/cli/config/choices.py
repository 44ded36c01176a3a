"""Tables that choose a function of Hansa by its name, with its arguments as keys: an algorithm, a rule, a codec.

Which keys there are, and what they expect, is read off the function's signature.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import operator
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hansa.cli.config.checking import Chosen, Function, checked_value, expected, joined, shown
from hansa.models.named_optimizers import OptimizerName
from hansa.types import names

_NAME = "name"


@dataclass(frozen=True)
class Choice(Chosen):
    """A function by its name, and the arguments that a file gives it.

    Attributes:
        name: the function's, as files have it.
        arguments: by the names of its parameters; one may be a `Choice` or a `Function`, too.
    """

    name: str
    arguments: Mapping[str, Any]

    WHAT: ClassVar[str]
    """What is chosen, in a few words."""

    @classmethod
    def functions(cls) -> dict[str, str]:
        """The functions by the names that files have, each by its own name."""
        raise NotImplementedError

    @classmethod
    def function_of(cls, name: str) -> Callable[..., Any]:
        """The function of a name."""
        raise NotImplementedError

    @classmethod
    def elsewhere(cls) -> Mapping[str, str]:
        """Parameters that are no keys of the table, and the key of the file that they are instead; empty if none."""
        return {}

    @classmethod
    def found(cls) -> Sequence[str]:
        """Parameters that a run finds by itself, where the file does not give them."""
        return ()

    @property
    def function(self) -> Callable[..., Any]:
        """What is chosen."""
        return self.function_of(self.name)

    def parts(self) -> Iterator[Any]:
        """Itself, and the choices and functions in its arguments."""
        yield self
        for each in self.arguments.values():
            if isinstance(each, Choice):
                yield from each.parts()
            elif isinstance(each, Function):
                yield each

    def plain(self) -> dict[str, Any]:
        """The table that it was read from."""
        return {_NAME: self.name, **self.arguments}

    def __str__(self) -> str:
        given = ", ".join(
            f"{key} = {each if isinstance(each, Choice) else shown(each)}" for key, each in self.arguments.items()
        )
        return f"{self.name} ({given})" if given else self.name

    @classmethod
    def read(cls, value: Any, folder: Path, where: str, problems: list[str]) -> Choice | None:
        """A choice of what a file has: a name, or a table; None if something is wrong with it."""
        table = {_NAME: value} if isinstance(value, str) else value
        if not isinstance(table, dict):
            problems.append(f"{where} = {shown(value)}: expected its name, or a table")
            return None
        name = table.get(_NAME)
        if not isinstance(name, str) or name not in cls.functions():
            problems.append(cls.unknown(name, f"{where}.{_NAME}"))
            return None
        before = len(problems)
        arguments = cls._arguments(name, table, folder, where, problems)
        return None if len(problems) > before else cls(name, arguments)

    @classmethod
    def unknown(cls, name: Any, where: str) -> str:
        """What is said about a name that nothing has, with the nearest one."""
        known = cls.functions()
        if f"build_{name}" in _WITH_MORE_DATA:
            return f"{where} = {shown(name)}: its rounds take data at the server, which no file has; train it in Python"
        said = f"{where} is missing" if name is None else f"{where} = {shown(name)} is no {cls.WHAT}"
        return f"{said}{_nearest(name, known)} there are {', '.join(known)}"

    @classmethod
    def keys_of(cls, name: str) -> dict[str, Parameter]:
        """What a function takes that is a key of the table."""
        return {key: each for key, each in parameters(cls.function_of(name)).items() if key not in cls.elsewhere()}

    @classmethod
    def _arguments(
        cls, name: str, table: Mapping[str, Any], folder: Path, where: str, problems: list[str]
    ) -> dict[str, Any]:
        every, keys, elsewhere = parameters(cls.function_of(name)), cls.keys_of(name), cls.elsewhere()
        found = {}
        for key, value in table.items():
            if key == _NAME:
                continue
            here = joined(where, key)
            if key in keys:
                found[key] = _argument(keys[key].kinds, value, folder, here, problems)
            elif elsewhere.get(key):
                instead = f"write {elsewhere[key]}" if key in every else f"{name} has none"
                problems.append(f"{here} is no key of this table; {instead}")
            else:
                keys_here = ", ".join([_NAME, *keys])
                problems.append(f"{here} is no key{names.suggestion(key, keys) or ';'} those of {name} are {keys_here}")
        for key, parameter in keys.items():
            if parameter.required and key not in table and key not in cls.found():
                problems.append(f"{joined(where, key)} is missing: {name} needs it; expected {parameter.expected}")
        return found


class Algorithm(Choice):
    """How the model is trained: a builder of `hansa.learning`."""

    WHAT = "algorithm"

    @classmethod
    def functions(cls) -> dict[str, str]:
        """The builders, without what all their names have."""
        from hansa.learning import algorithms  # slow to import

        every = sorted(name for name in dir(algorithms) if name.startswith("build_") and "evaluation" not in name)
        return {
            "federated_averaging": "build_federated_averaging_process",
            **{name.removeprefix("build_"): name for name in every if name not in _WITH_MORE_DATA},
        }

    @classmethod
    def function_of(cls, name: str) -> Callable[..., Any]:
        """The builder."""
        from hansa import learning

        builder: Callable[..., Any] = getattr(learning, cls.functions()[name])
        return builder

    @classmethod
    def elsewhere(cls) -> Mapping[str, str]:
        """What a file says in other tables, whatever the algorithm is."""
        tables = {name: f"the table [{name}]" for name in OF_TABLES}
        return {**dict.fromkeys(("model_fn",), ""), **OF_TRAINING, **tables}

    @classmethod
    def found(cls) -> Sequence[str]:
        """How many clients there are."""
        return ("population",)


class Made(Choice):
    """A function whose result is an argument of another: its own may be such results, too."""

    def make(self) -> Any:
        """What the function gives for its arguments."""
        given = {key: each.make() if isinstance(each, Made) else each for key, each in self.arguments.items()}
        return self.function(**given)


class Rule(Made):
    """How the clients' updates become one: a rule of `hansa.aggregators`."""

    WHAT = "rule"

    @classmethod
    def functions(cls) -> dict[str, str]:
        """The rules."""
        from hansa import aggregators  # slow to import

        every = [*sorted(dir(aggregators)), *(f"attacks.{name}" for name in sorted(aggregators.attacks.__all__))]
        return {name: name for name in every if _gives(cls.function_of(name), "Factory")}

    @classmethod
    def function_of(cls, name: str) -> Callable[..., Any]:
        """The rule."""
        from hansa import aggregators

        rule: Callable[..., Any] = operator.attrgetter(name)(aggregators)
        return rule


class Coding(Made):
    """How what the server sends comes to the clients: a codec of `hansa.aggregators.codecs`."""

    WHAT = "codec"

    @classmethod
    def functions(cls) -> dict[str, str]:
        """The codecs."""
        from hansa.aggregators import codecs  # slow to import

        return {name: name for name in sorted(dir(codecs)) if _gives(getattr(codecs, name), "Codec")}

    @classmethod
    def function_of(cls, name: str) -> Callable[..., Any]:
        """What makes the codec."""
        from hansa.aggregators import codecs

        codec: Callable[..., Any] = getattr(codecs, name)
        return codec


_WITH_MORE_DATA = ("build_fl_trust",)
"""Builders of processes whose rounds take more than the clients' data, which a file does not say."""

OF_TRAINING = {
    "client_optimizer": "training.client_optimizer",
    "client_learning_rate": "training.client_learning_rate",
    "server_optimizer": "training.server_optimizer",
    "server_learning_rate": "training.server_learning_rate",
    "client_weighting": "training.weighting",
    "non_trainable": "training.non_trainable",
    "seed": "training.seed",
}
"""Parameters of builders that are keys of `[training]`."""

OF_TABLES = ("aggregator", "distributor")
"""Parameters of builders that are tables of their own."""


@dataclass(frozen=True)
class Parameter:
    """What a function takes by a name.

    Attributes:
        required: whether there is no default.
        default: what it is by default; None where it is required, too.
        kinds: what a file may give for it: types that `checking` knows; none if only Python has such values.
    """

    required: bool
    default: Any
    kinds: tuple[Any, ...]

    @property
    def expected(self) -> str:
        """What a file may give, in words."""
        return _expected(self.kinds)


@functools.cache
def parameters(function: Callable[..., Any]) -> Mapping[str, Parameter]:
    """What a function takes, by name; what it passes on as `**names: Unpack[…]`, too."""
    scope = getattr(function, "__globals__", {})
    found: dict[str, Parameter] = {}
    for name, each in inspect.signature(function).parameters.items():
        if each.kind is each.VAR_KEYWORD:
            found.update(_passed_on(_hint(each.annotation, scope)))
        else:
            required = each.default is each.empty
            default = None if required else each.default
            found[name] = Parameter(required, default, _kinds_of(each.annotation, scope))
    return found


def _passed_on(hint: Any) -> Iterator[tuple[str, Parameter]]:
    for table in typing.get_args(hint):
        scope = vars(sys.modules[table.__module__])
        for name, said in table.__annotations__.items():
            yield name, Parameter(False, None, _kinds_of(getattr(said, "__forward_arg__", said), scope))


def _hint(said: Any, scope: Mapping[str, Any]) -> Any:
    """The type that an annotation names; None if it cannot be looked up, as those that only type checkers read."""
    try:
        return typing.get_type_hints(types.SimpleNamespace(__annotations__={"it": said}), dict(scope))["it"]
    except (NameError, TypeError):
        return None


def _kinds_of(said: Any, scope: Mapping[str, Any]) -> tuple[Any, ...]:
    if "AnyOptimizer" in str(said):  # which names types that only type checkers read
        return (OptimizerName,)
    return tuple(dict.fromkeys(_kinds(_hint(said, scope))))


def _gives(value: Any, what: str) -> bool:
    """Whether it is a function with such results that a file can have, with all that it must be given."""
    if not inspect.isfunction(value) or inspect.signature(value).return_annotation != what:
        return False
    return all(each.kinds for each in parameters(value).values() if each.required)


def _kinds(hint: Any) -> Iterator[Any]:
    from hansa.aggregators import Factory
    from hansa.aggregators.codecs import Codec

    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for member in members:
            yield from _kinds(member)
    elif hint in (int, float, bool, str) or origin is typing.Literal:
        yield hint
    elif hint is Factory:
        yield Rule
    elif hint is Codec:
        yield Coding
    elif origin is collections.abc.Callable:
        yield Function
    elif origin in (list, tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection):
        for member in _kinds(members[0]):
            yield types.GenericAlias(list, (member,))


def _argument(kinds: tuple[Any, ...], value: Any, folder: Path, where: str, problems: list[str]) -> Any:
    """A value of one of the types."""
    tried: list[str] = []
    for kind in sorted(kinds, key=lambda kind: kind is not Function):  # whose values are strings, too
        found: list[str] = []
        result = checked_value(kind, value, folder, where, found)
        if not found:
            return result
        tried += found
    if len(kinds) > 1:
        tried = [f"{where} = {shown(value)}: expected {_expected(kinds)}"]
    problems.extend(tried or [f"{where} is given in Python only, and not in a file; leave it out"])
    return None


def _expected(kinds: tuple[Any, ...]) -> str:
    return ", or ".join(map(expected, kinds)) or "what only Python has, so this is trained in Python"


def _nearest(name: Any, known: Mapping[str, str]) -> str:
    """The name that is meant, however it is written."""
    if not isinstance(name, str):
        return ";"
    plain = {each.replace("_", ""): each for each in known}
    written = name.lower().replace("_", "").replace("-", "").replace(" ", "").removeprefix("build")
    if written in ("fedavg", "averaging", "avg"):
        written = "federatedaveraging"
    near = plain.get(written)
    return f'; did you mean "{near}"?' if near else names.suggestion(name.lower(), known).replace("'", '"') or ";"
