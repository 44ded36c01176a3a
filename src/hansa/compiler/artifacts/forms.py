"""What a function of a file takes and gives by the types that the file declares, held against what it says itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jax import export
from jax.export import Exported

from hansa.compiler.boundary import Symbols, avals
from hansa.compiler.sequences import Aval
from hansa.types import Type


@dataclass(frozen=True)
class Form:
    """What a function takes and gives.

    Attributes:
        takes: the unplaced types of its arguments.
        gives: those of its results, or their shapes; None if anything may come.
        before: shapes of arguments before those.
        varying: which of the arrays of the arguments are stacks of one for each client; None if it is for one client.
        clients: for how many clients it is; None if for any number.
    """

    takes: Sequence[Type]
    gives: Sequence[Type | Any] | None
    before: Sequence[Any] = ()
    varying: tuple[bool, ...] | None = None
    clients: int | None = None

    def stacked(self, varying: tuple[bool, ...], clients: int | None) -> Form:
        """The form of the same function for several clients."""
        if clients is not None and (not isinstance(clients, int) or clients < 1):
            raise ValueError(f"a function for {clients!r} clients")
        return replace(self, varying=varying, clients=clients)

    def check(self, exported: Exported, constants: Sequence[Aval]) -> None:
        """Looks whether a function has this form, and takes the constants before all else.

        Raises:
            ValueError: if it has another one; the message says what is declared and what is there.
        """
        for shared in (False, True):  # the two ways in which they are written
            symbols = Symbols(shared)
            arguments = [*self.before, *(aval for kind in self.takes for aval in avals(kind, symbols))]
            clients: Any = None
            if self.varying is not None:
                clients = symbols.new() if self.clients is None else self.clients
                stacks = zip(arguments, self.varying, strict=True)
                arguments = [Aval((clients, *aval.shape), aval.dtype) if own else aval for aval, own in stacks]
            declared = [*constants, *arguments]
            if _texts(declared) == _texts(exported.in_avals):
                break
        else:
            raise ValueError(_differ("takes", declared, exported.in_avals))
        if self.gives is not None:
            self._check_results(exported, clients)

    def _check_results(self, exported: Exported, clients: Any) -> None:
        assert self.gives is not None
        symbols = Symbols()
        declared = [
            aval for kind in self.gives for aval in (avals(kind, symbols) if isinstance(kind, Type) else [kind])
        ]
        if len(declared) != len(exported.out_avals):
            raise ValueError(_differ("gives", declared, exported.out_avals))
        for said, found in zip(declared, exported.out_avals, strict=True):
            shape = list(found.shape)
            if self.varying is not None:
                first = shape.pop(0) if shape else None
                if str(first) != str(clients):
                    raise ValueError(_differ("gives", declared, exported.out_avals))
            known = [said.dtype == found.dtype, len(said.shape) == len(shape)]
            known += [a == b for a, b in zip(said.shape, shape, strict=False) if not export.is_symbolic_dim(a)]
            if not all(known):
                raise ValueError(_differ("gives", declared, exported.out_avals))


def _texts(arrays: Sequence[Any]) -> list[str]:
    """The arrays' types, in which symbols are numbered in the order in which they first stand by themselves."""
    sizes = [str(size) for array in arrays for size in array.shape]
    alone = dict.fromkeys(size for size in sizes if size.isidentifier())
    numbers = {symbol: f"s{number}" for number, symbol in enumerate(alone)}
    return [f"{array.dtype}[{','.join(_named(str(size), numbers) for size in array.shape)}]" for array in arrays]


def _named(size: str, names: dict[str, str]) -> str:
    """A size with other names for its symbols, and the terms of a sum in one order."""
    renamed = re.sub(r"[A-Za-z_]\w*", lambda found: names.get(found[0], "other"), size)
    return " + ".join(sorted(renamed.replace("- ", "+ -").split(" + ")))


def _differ(what: str, declared: Sequence[Any], found: Sequence[Any]) -> str:
    said, there = (", ".join(f"{a.dtype}[{','.join(map(str, a.shape))}]" for a in side) for side in (declared, found))
    return f"a function that {what} {there or 'nothing'} in place of {said or 'nothing'}"
