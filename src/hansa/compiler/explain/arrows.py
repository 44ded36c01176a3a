"""The arrows of the picture between the server and the clients, and what is written at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hansa.compiler.explain.facts import Broadcast, Bytes, Report, sliced
from hansa.types import Type

MOST = 6
"""Arrows of one kind between two boxes; what is more is put together in one."""


_NOTES = {"collect": "one from each client", "stack": "one from each client", "select": "asks for slices"}


@dataclass(frozen=True)
class Arrow:
    """An arrow and what is written at it.

    Attributes:
        name: of what goes along it.
        full: the name, or those of all values that are put together in it.
        types: theirs; empty if many are put together.
        size: of one client's, for people.
        exact: the size in bytes.
        into: what the server makes of it.
        note: who sees it, or what it is for.
        protected: the server is to see only the sum.
        apart: each client's value arrives as it is.
    """

    name: str
    full: str
    types: tuple[Type, ...]
    size: str
    exact: str
    into: str = ""
    note: str = ""
    protected: bool = False
    apart: bool = False


def arrows_down(messages: Sequence[Broadcast]) -> list[Arrow]:
    """What each client receives."""
    arrows = []
    for sent in messages[: few(messages, MOST)]:
        name = sent.name if sent.slices is None else sliced(sent)
        arrows.append(Arrow(name, name, (sent.type,), sent.bytes.short, str(sent.bytes)))
    rest = messages[few(messages, MOST) :]
    if rest:
        names, size = ", ".join(sent.name for sent in rest), Bytes.total(sent.bytes for sent in rest)
        arrows.append(Arrow(f"{len(rest)} more: {names}", names, (), size.short, str(size)))
    return arrows


def arrows_up(messages: Sequence[Report]) -> list[Arrow]:
    """What each client reports: what is added up, what is protected, and what stays apart."""
    arrows = []
    groups: dict[tuple[str, bool, bool], list[Report]] = {}
    for report in messages:
        apart = report.into in _NOTES
        seen = "only the sum is seen, with noise" if report.terms.disclosure == "noised sum" else "only the sum is seen"
        note = seen if report.protected else _NOTES.get(report.into, "")
        groups.setdefault((note, report.protected, apart), []).append(report)
    for (note, protected, apart), reports in groups.items():
        for report in reports[: few(reports, MOST)]:
            size, exact = report.bytes.short, str(report.bytes)
            arrows.append(
                Arrow(report.name, report.name, report.types, size, exact, report.into, note, protected, apart)
            )
        rest = reports[few(reports, MOST) :]
        if rest:
            names = ", ".join(f"{report.into} of {report.name}" for report in rest)
            total = Bytes.total(report.bytes for report in rest)
            into = "…" if len({report.into for report in rest}) > 1 else rest[0].into
            name = f"{len(rest)} more: {names}"
            arrows.append(Arrow(name, names, (), total.short, str(total), into, note, protected, apart))
    return arrows


def few(entries: Sequence[object], most: int) -> int:
    """How many entries to show one by one: all, or one less than there is room for, as the last line says the rest."""
    return len(entries) if len(entries) <= most else most - 1
