"""`hansa privacy status` and `hansa privacy verify`: what a run has spent, and whether its ledger is sound."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from hansa.cli._output import print_json, say
from hansa.network.device_spending import LEDGER, spent_by
from hansa.privacy import LedgerError, Sites
from hansa.program import Spent, read_privacy, verify_privacy
from hansa.program.run_file import has_run


def status(run: Path, as_json: bool) -> None:
    """Print what a run promises, and what it has spent of its budget."""
    if is_of_device(run):
        _status_of_device(run, as_json)
        return
    spent = read_privacy(run)
    guarantee = spent.guarantee
    if as_json:
        print_json(
            {
                "guarantee": asdict(guarantee),
                "epsilon_of_everything": None
                if math.isinf(spent.guarantee.epsilon_of_everything)
                else guarantee.epsilon,
                "budget": spent.budget,
                "open_metrics": spent.open_metrics,
                "rounds": spent.rounds,
                "attempts": spent.attempts,
                "sites": dict(spent.sites),
                "charges": [
                    {**charge.to_json(), "times": times}
                    for charge, times in Counter(each.charge for each in spent.entries).items()
                ],
            }
        )
        return
    say(f"promise   {guarantee}")
    if math.isfinite(spent.budget):
        left = max(0.0, 1 - guarantee.epsilon / spent.budget)
        say(f"budget    epsilon {spent.budget:g} at delta {guarantee.delta:g}; {left:.0%} of it is left")
    else:
        say("budget    none: epsilon is counted only")
    more = spent.attempts - spent.rounds
    say(f"charged   {spent.attempts} times for {spent.rounds} rounds" + (f", {more} of them again" if more else ""))
    for charge, times in Counter(each.charge for each in spent.entries if each.charge.unit == "client").items():
        say(f"cohorts   {charge.sampling}, {times} times: {'; '.join(map(str, charge.mechanisms))}")
    for mechanism in dict.fromkeys(each.charge.mechanisms[0] for each in spent.entries if spent.sites):
        say(f"steps     {mechanism}")
    examples, rounds = _of_sites(spent)
    for site, epsilon in sorted(spent.sites.items(), key=lambda pair: -pair[1]):
        say(f"site      {site}: epsilon {epsilon:.4g}, {examples[site]:,} examples, charged {rounds[site]} times")
    if spent.open_metrics:
        say("metrics   are open: nothing is promised to those who see them")


def is_of_device(folder: Path) -> bool:
    """Whether a folder is a device's, which has spent something of its own."""
    return (folder / LEDGER).exists() and not has_run(folder)


def _status_of_device(folder: Path, as_json: bool) -> None:
    accountant, times = spent_by(folder)
    guarantee = accountant.guarantee(times)
    if as_json:
        print_json({"guarantee": asdict(guarantee), "charged": times})
    else:
        say(f"promise   {guarantee}", f"charged   {times} times, for contributions of this device")


def _problems_of_device(folder: Path) -> list[str]:
    try:
        spent_by(folder)
    except LedgerError as error:
        return [str(error)]
    return []


def _of_sites(spent: Spent) -> tuple[dict[int | str, int], Counter[int | str]]:
    """How many examples each site has, and how often it was charged."""
    examples: dict[int | str, int] = {}
    rounds: Counter[int | str] = Counter()
    for entry in spent.entries:
        if isinstance(entry.charge.sampling, Sites):
            for site, number in zip(entry.clients or (), entry.charge.sampling.examples, strict=True):
                examples[site] = max(number, examples.get(site, 0))
                rounds[site] += 1
    return examples, rounds


def verify(run: Path, as_json: bool) -> bool:
    """Look whether the ledger is sound, print what is wrong, and say whether nothing is."""
    problems = _problems_of_device(run) if is_of_device(run) else verify_privacy(run)
    if as_json:
        print_json({"sound": not problems, "problems": problems})
        return not problems
    say(*problems, "The ledger is not sound." if problems else "The ledger is sound: each round was charged.")
    return not problems
