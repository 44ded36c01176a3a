"""Floating-point operations of a computation, as far as they are known before there is data.

They are a sum of terms: what is done once, for each batch of a sequence, for each turn of a loop. An amount may depend
on `b`, the number of examples in a batch, so it is an integer or one of JAX's symbolic sizes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jax import export

from hansa.language.sizes import batch_symbols, size_at

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


@dataclass(frozen=True)
class Turn:
    """What a term is for each of.

    Attributes:
        of: "batch", "element", "collected value", "slice", or "iteration" of a loop whose end only the data knows.
        source: the name of the sequence that the batches are from, or of the loop.
    """

    of: str
    source: str


@dataclass(frozen=True)
class Term:
    """A part of the work.

    Attributes:
        amount: how many operations; an integer, or a symbolic size that depends on the size of a batch, `b`.
        per: for each of which turns, from the outermost loop to the innermost; empty for what is done once.
    """

    amount: Any
    per: tuple[Turn, ...] = ()

    @property
    def linear(self) -> tuple[int, int] | None:
        """(n, m) of an amount n + m * b, or None if it is another function of the sizes."""
        if not export.is_symbolic_dim(self.amount):
            return int(self.amount), 0
        try:
            values = {size: size_at(self.amount, {"b": size}) for size in (1, 2, 3, 64, 10**6 + 3)}
        except NameError:
            return None
        slope = values[2] - values[1]
        start = values[1] - slope
        return (start, slope) if all(n == start + slope * size for size, n in values.items()) else None


@dataclass(frozen=True)
class Flops:
    """The floating-point operations of a piece of work; it prints as `816 kFLOP per batch + 1.63 MFLOP per example`.

    Attributes:
        terms: the parts, none of them zero.
        notes: what is not in the terms, for people.
    """

    terms: tuple[Term, ...] = ()
    notes: tuple[str, ...] = ()

    @staticmethod
    def of(amount: Any) -> Flops:
        """That many operations, once."""
        return Flops() if _is_zero(amount) else Flops((Term(amount),))

    @staticmethod
    def total(parts: Iterable[Flops]) -> Flops:
        """All of them together."""
        sums: dict[Any, Term] = {}
        notes: dict[str, None] = {}
        for part in parts:
            for term in part.terms:
                # Two loops of unknown length have no turns in common.
                key = len(sums) if any(turn.of == "iteration" for turn in term.per) else term.per
                sums[key] = Term(sums[key].amount + term.amount, term.per) if key in sums else term
            notes.update(dict.fromkeys(part.notes))
        return Flops(tuple(sorted(sums.values(), key=lambda term: len(term.per))), tuple(notes))

    def times(self, count: Any) -> Flops:
        """The work done `count` times; what is said of each turn of a loop inside of it stays as it is."""
        if _is_zero(count):
            return Flops()
        terms = (term if term.per else Term(term.amount * count) for term in self.terms)
        return Flops(tuple(terms), self.notes)

    def in_turn(self, turn: Turn) -> Flops:
        """The work as that of each turn of a loop."""
        return Flops(tuple(Term(term.amount, (turn, *term.per)) for term in self.terms), self.notes)

    def at(self, batch_size: int = 1, turns: int = 1, iterations: int = 1) -> int:
        """How many operations these are with so many examples in each batch.

        Args:
            batch_size: the number of examples of a batch, and every other unknown size.
            turns: how many batches, elements, slices or collected values each sequence has.
            iterations: how often each loop of unknown length goes round, each time that it is reached.
        """
        names = {str(symbol): batch_size for symbol in batch_symbols()}
        total = 0
        for term in self.terms:
            amount = size_at(term.amount, names) if export.is_symbolic_dim(term.amount) else term.amount
            for turn in term.per:
                amount *= iterations if turn.of == "iteration" else turns
            total += int(amount)
        return total

    def __bool__(self) -> bool:
        return bool(self.terms or self.notes)

    def __str__(self) -> str:
        sources = {turn for term in self.terms for turn in term.per if turn.of != "iteration"}
        parts = [text for term in self.terms for text in _shown(term, len(sources) > 1)]
        return " + ".join(parts or ["0 FLOP"]) + "".join(f" ({note})" for note in self.notes)


def _is_zero(amount: Any) -> bool:
    return not export.is_symbolic_dim(amount) and amount == 0


def _shown(term: Term, several: bool) -> list[str]:
    per = "".join(f" per {_turn(turn, several)}" for turn in reversed(term.per))
    linear = term.linear
    # Sizes are those of a batch, or of what has a leading size that is not known: its rows.
    in_batch = bool(term.per) and term.per[-1].of == "batch"
    if linear is None:
        return [f"({term.amount}) FLOP{per} " + ("of b examples" if in_batch else "for b rows")]
    fixed, each = linear
    example = per.replace(" per batch", " per example", 1) if in_batch else f" per row{per}"
    known = [f"{amount(fixed)}{per}"] if fixed or not each else []
    return known + ([f"{amount(each)}{example}"] if each else [])


def _turn(turn: Turn, several: bool) -> str:
    return f"{turn.of} of {turn.source}" if several or turn.of == "iteration" else turn.of


def amount(count: int, unit: str = "FLOP") -> str:
    """A number with a unit for people: `9,216 FLOP`, `1.63 MFLOP`."""
    if abs(count) < 10_000:
        return f"{count:,} {unit}"
    value, prefix = float(count), 0
    while abs(value) >= 999.5 and prefix < len(_PREFIXES) - 1:
        value, prefix = value / 1000, prefix + 1
    return f"{value:.3g} {_PREFIXES[prefix]}{unit}"
