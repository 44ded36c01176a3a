"""What the folder of a private run promises, and whether its ledger says what its rounds have done."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hansa.privacy import Accountant, Entry, Guarantee, LedgerError, read_ledger
from hansa.privacy.accountant import charged
from hansa.program.lines import read_records
from hansa.program.private_folder import LEDGER, PRIVATE, open_to_others
from hansa.program.run_file import RECORDS, RunError, read_run
from hansa.program.spending import EPSILON, promised

_MOST_PARTS = 1 << 20
_WITHIN = 1e-6
"""Epsilons that differ by this part are the same: other processors round otherwise."""


@dataclass(frozen=True)
class Spent:
    """What a run has spent, by its ledger.

    Attributes:
        guarantee: what is promised to those who see what has left its rounds.
        budget: the epsilon that it does not exceed; infinite, if it only counts.
        open_metrics: whether its metrics are outside of the promise.
        rounds: how many rounds were charged.
        attempts: how many times a round was.
        entries: the charges, in order.
        sites: the epsilon of each client's examples, where these are what is protected; else nothing.

    Examples:
        >>> guarantee = hansa.privacy.Guarantee(2.0, 1e-6, rounds=10)
        >>> spent = hansa.program.Spent(guarantee, budget=8.0, open_metrics=False, rounds=10, attempts=11, entries=())
        >>> spent.guarantee.epsilon, spent.attempts - spent.rounds
        (2.0, 1)
    """

    guarantee: Guarantee
    budget: float
    open_metrics: bool
    rounds: int
    attempts: int
    entries: tuple[Entry, ...]
    sites: Mapping[int | str, float] = field(default_factory=dict)


def read_privacy(run_dir: str | os.PathLike[str]) -> Spent:
    """What a private run has spent, counted anew of its ledger; also of one that is under way, or was killed.

    Args:
        run_dir: the run's folder.

    Raises:
        RunError: if there is no run in it, or it is not private.
        hansa.privacy.LedgerError: if its ledger is damaged or lost.

    Examples:
        >>> hansa.program.read_privacy("runs/private").guarantee
        Traceback (most recent call last):
            ...
        hansa.program.run_file.RunError: runs/private has no run: ...
    """
    folder = Path(run_dir)
    said = _asked(folder)
    entries = _entries(folder)
    accountant = Accountant(said["delta"])
    list(charged(accountant, entries))
    charged_rounds = {entry.round for entry in entries}
    done = [record["round"] for record in read_records(folder / RECORDS).records]
    lost = next((number for number in done if number and number not in charged_rounds), None)
    if lost is not None:
        raise LedgerError(
            f"the ledger of {folder} has no entry of round {lost}, which is done: what has been spent is not known"
        )
    rounds = len(charged_rounds)
    budget = math.inf if said["epsilon"] is None else float(said["epsilon"])
    is_open = said.get("metrics") == "open"
    guarantee = promised(accountant, entries, rounds, said)
    sites = cast(Mapping[int | str, float], accountant.by_site())
    return Spent(guarantee, budget, is_open, rounds, len(entries), tuple(entries), sites)


def verify_privacy(run_dir: str | os.PathLike[str]) -> list[str]:
    """What is wrong with what a private run's folder says of its privacy; nothing, if the list is empty.

    It looks at the chain of the ledger, counts each epsilon anew, and looks whether each round that has metrics was
    charged, its epsilon is that of the ledger, the budget was kept, and nobody else may read secrets. What it cannot
    see is a folder of which all was written anew by somebody.

    Args:
        run_dir: the run's folder.

    Raises:
        RunError: if there is no run in it, or it is not private.

    Examples:
        >>> hansa.program.verify_privacy("runs/private")
        Traceback (most recent call last):
            ...
        hansa.program.run_file.RunError: runs/private has no run: ...
    """
    folder = Path(run_dir)
    said = _asked(folder)
    try:
        entries = _entries(folder)
    except LedgerError as error:
        return [str(error)]
    problems: list[str] = []
    accountant = Accountant(said["delta"])
    after: dict[int, list[float]] = {}
    try:
        for entry in charged(accountant, entries):
            found = accountant.epsilon
            # A figure may be smaller than the quick one, where a smaller one was known to be enough.
            if entry.delta == said["delta"] and entry.epsilon_after > found * (1 + _WITHIN):
                problems.append(
                    f"round {entry.round}: the ledger says epsilon {entry.epsilon_after:.6g}, and it is {found:.6g}"
                )
            after.setdefault(entry.round, []).append(entry.epsilon_after)
    except LedgerError as error:
        return [*problems, str(error)]
    try:
        promised(accountant, entries, len(after), said)
    except LedgerError as error:
        problems.append(str(error))
    exact = accountant.exact()
    budget = math.inf if said["epsilon"] is None else float(said["epsilon"])
    if exact > budget * (1 + _WITHIN):
        problems.append(f"epsilon {exact:.6g} is more than the budget, {budget:g}")
    # The last figure is an upper bound; were it less than the epsilon, so would those before be.
    if entries and entries[-1].epsilon_after < exact * (1 - _WITHIN):
        problems.append(f"the ledger says epsilon {entries[-1].epsilon_after:.6g} at last, and it is {exact:.6g}")
    for record in read_records(folder / RECORDS).records:
        number = record["round"]
        if number and number not in after:
            problems.append(f"round {number} has metrics, and was not charged")
        elif number and record.get(EPSILON) not in after[number]:
            problems.append(f"round {number}: its metrics say epsilon {record.get(EPSILON)}, and the ledger does not")
    opened = open_to_others(folder / PRIVATE)
    return problems if opened is None else [*problems, opened]


def _asked(folder: Path) -> dict[str, Any]:
    """What the run was asked of privacy."""
    found = read_run(folder)["asked"].get("privacy")
    if found is None:
        raise RunError(f"the run in {folder} is not private: it was not given a budget, hansa.privacy.Budget(…)")
    delta, epsilon = (found.get(name) if isinstance(found, dict) else None for name in ("delta", "epsilon"))
    parts = found.get("of_model", []) if isinstance(found, dict) else None
    whole = isinstance(parts, list) and all(type(each) is int and 0 <= each < _MOST_PARTS for each in parts)
    if not whole or not isinstance(delta, float) or not 0 < delta < 1 or not isinstance(epsilon, int | float | None):
        raise RunError(f"{folder}: what run.json says of privacy is damaged")
    return dict(found)


def _entries(folder: Path) -> list[Entry]:
    path = folder / PRIVATE / LEDGER
    if not os.path.lexists(path) and not read_records(folder / RECORDS).records:
        return []  # it has not begun
    return read_ledger(path)
