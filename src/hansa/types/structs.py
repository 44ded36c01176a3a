"""`Struct`, the value that computations take and return where a type is a struct.

It holds values and their names and knows nothing of types; `values.to_value` is what makes one to a type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload

import jax
import numpy as np

from hansa._answers import written_for
from hansa._tracebacks import fold
from hansa.types import names as _names
from hansa.types.listed import Listed
from hansa.types.printing import format_value

S = TypeVar("S", bound="Struct")


class _Of:
    """Gives classes `of`, and leaves `struct.of` to a field of that name."""

    def __get__(self, instance: Struct | None, owner: type[S]) -> Callable[..., S]:
        if instance is not None:
            raise AttributeError("of")

        def of(**fields: Any) -> S:
            """The struct of these fields, in this order."""
            return owner._make(tuple(fields), tuple(fields.values()))

        return of


class Struct:
    """An immutable, ordered collection of values, each with a name or without.

    A value is reached as an attribute where its name is an identifier (`metrics.loss`), by any name
    (`weights['dense/kernel']`), by index or slice (`pair[0]`), and by unpacking (`state, metrics = output`). What is
    not a field begins with an underscore, as in named tuples, so that any other name may be one; a field whose name
    does begin so is reached by `['_name']`.

    It is a JAX pytree, and so is each subclass, which may add methods and properties, but no state of its own:
    wherever JAX rebuilds one, `__init__` is not called.

    Args:
        pairs: Pairs of a name, or None, and a value.

    Examples:
        >>> metrics = hansa.Struct([("loss", 0.25), ("dense/kernel", np.zeros(2))])
        >>> metrics.loss, metrics["dense/kernel"], metrics[0]
        (0.25, array([0., 0.]), 0.25)
        >>> print(hansa.Struct.of(x=1, y=2), hansa.Struct.of(x=1, y=2)._asdict())
        <x=1,y=2> {'x': 1, 'y': 2}
        >>> metrics._replace(loss=0.5).loss
        0.5
    """

    __slots__ = ("_names", "_values")

    _names: tuple[str | None, ...]
    _values: tuple[Any, ...]

    of = _Of()

    def __init__(self, pairs: Iterable[tuple[str | None, Any]] = ()) -> None:
        names: list[str | None] = []
        values: list[Any] = []
        for pair in pairs:
            try:
                name, value = pair
            except (TypeError, ValueError) as error:
                hint = "; for a dict, pass its items()" if isinstance(pairs, Mapping) else ""
                raise TypeError(f"a struct is made of pairs (name or None, value), but: {error}{hint}") from None
            names.append(name)
            values.append(value)
        _names.check(names)
        _set_names(self, tuple(names))
        _set_values(self, tuple(values))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _register(cls)

    @classmethod
    def _make(cls: type[S], names: tuple[str | None, ...], values: tuple[Any, ...]) -> S:
        """The struct of these, unchecked: as many names as values, and all of them different."""
        self = object.__new__(cls)
        _set_names(self, names)
        _set_values(self, values)
        return self

    @property
    def _fields(self) -> tuple[str | None, ...]:
        """The names, None where a field has none."""
        return self._names

    def _items(self) -> tuple[tuple[str | None, Any], ...]:
        """The pairs of name and value."""
        return tuple(zip(self._names, self._values, strict=True))

    def _asdict(self) -> dict[str, Any]:
        """The values by name, in order; structs within stay structs."""
        result: dict[str, Any] = {}
        for index, (name, value) in enumerate(zip(self._names, self._values, strict=True)):
            if name is None:
                raise ValueError(f"the field [{index}] of {self} has no name, so there is no dict of it; use list(…)")
            result[name] = value
        return result

    def _replace(self: S, /, **changes: Any) -> S:
        """The same struct with other values in some of its fields."""
        for name in changes:
            if name not in self._names:
                raise ValueError(_names.unknown(name, self._names))
        values = tuple(changes.get(name, value) if name is not None else value for name, value in self._items())
        return self._make(self._names, values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # mostly the protocols that libraries look for
            raise AttributeError(f"a struct has no attribute {name!r}; a field of that name is struct[{name!r}]")
        if name in self._names:
            return self._values[self._names.index(name)]
        try:
            raise AttributeError(_missing(type(self), name, self._names))
        except AttributeError as error:
            fold(error)
            raise

    @overload
    def __getitem__(self, key: int | str) -> Any: ...

    @overload
    def __getitem__(self, key: slice) -> Struct: ...

    def __getitem__(self, key: int | str | slice) -> Any:
        if isinstance(key, str):
            if key in self._names:
                return self._values[self._names.index(key)]
            raise KeyError(_names.unknown(key, self._names))
        if isinstance(key, slice):
            return Struct._make(self._names[key], self._values[key])
        try:
            return self._values[key]
        except IndexError:
            raise IndexError(f"there is no field [{key}] in a struct of {len(self)}") from None

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        raise TypeError(
            "`in` is ambiguous for a struct; ask `in struct._fields` for names, `in list(struct)` for values"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Struct):
            return NotImplemented
        return self._names == other._names and all(map(_equal, self._values, other._values))

    __hash__ = None  # type: ignore[assignment]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a struct is immutable; make a changed one with _replace({_keyword(name)})")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a struct is immutable; make one without a field as Struct((name, value), …)")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._names, self._values)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(name for name in self._names if name is not None and name.isidentifier())]

    def __repr__(self) -> str:
        fields = (
            format_value(value) if name is None else f"{_names.quote(name)}={format_value(value)}"
            for name, value in self._items()
        )
        return f"<{','.join(fields)}>"


# The slots' own setters pass by the refusing `__setattr__`, and are the quickest way there is.
_set_names: Callable[[Struct, tuple[str | None, ...]], None] = Struct.__dict__["_names"].__set__
_set_values: Callable[[Struct, tuple[Any, ...]], None] = Struct.__dict__["_values"].__set__


def _rebuild(cls: type[S], names: tuple[str | None, ...], values: tuple[Any, ...]) -> S:
    return cls._make(names, values)


def _keyword(name: str) -> str:
    return f"{name}=…" if name.isidentifier() else f"**{{{name!r}: …}}"


def _equal(a: Any, b: Any) -> bool:
    """Whether two fields' values are equal, down to the elements of arrays, and whatever holds the arrays."""
    if isinstance(a, Struct) or isinstance(b, Struct):
        return isinstance(a, Struct) and isinstance(b, Struct) and a == b
    if isinstance(a, list | tuple | Listed) and isinstance(b, list | tuple | Listed):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    arrays = (np.ndarray, np.generic, jax.Array)
    if isinstance(a, arrays) or isinstance(b, arrays):
        comparable = (*arrays, bool, int, float, complex, str)
        return isinstance(a, comparable) and isinstance(b, comparable) and np.array_equal(np.asarray(a), np.asarray(b))
    return bool(a == b)


def _register(cls: type[Struct]) -> None:
    """Makes the class a pytree whose children are the values, under their names, and whose static part is the names."""

    def flatten(struct: Struct) -> tuple[tuple[Any, ...], tuple[str | None, ...]]:
        return struct._values, struct._names

    def flatten_with_keys(struct: Struct) -> tuple[list[tuple[Any, Any]], tuple[str | None, ...]]:
        keys = (_key(name, index) for index, name in enumerate(struct._names))
        return list(zip(keys, struct._values, strict=True)), struct._names

    def unflatten(names: tuple[str | None, ...], values: Iterable[Any]) -> Struct:
        return cls._make(names, tuple(values))

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)


def _key(name: str | None, index: int) -> Any:
    if name is None:
        return jax.tree_util.SequenceKey(index)
    return jax.tree_util.GetAttrKey(name) if name.isidentifier() else jax.tree_util.DictKey(name)


_register(Struct)


def _missing(kind: type, name: str, known: tuple[str | None, ...]) -> str:
    """The message about an attribute that is no field."""
    write = written_for(kind, name)
    return f"there is no field {name!r}; {write}" if write else _names.unknown(name, known)
