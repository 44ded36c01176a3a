"""What a private run spends: each attempt at a round is charged in the ledger before its noise is drawn.

A round whose entry is there already, of the same inputs, is made again with the same noise: nothing new leaves it, and
it costs nothing. Of other inputs it is another attempt, with other noise, and both are charged. So no noise is ever
used for two sums, of which anybody could tell the difference.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from hansa._tracebacks import add_note
from hansa.language.counted import Counted
from hansa.language.flows import begins
from hansa.language.noise import noise_of
from hansa.language.noised import mechanisms_in
from hansa.language.occasions import Occasion
from hansa.privacy import (
    DPSGD,
    Accountant,
    Budget,
    Charge,
    Entry,
    Guarantee,
    Ledger,
    LedgerError,
    Matrix,
    Sites,
    releases,
    require_private,
)
from hansa.privacy.accountant import charged
from hansa.privacy.mechanisms import known_mechanism
from hansa.privacy.sampling import USED
from hansa.program.checksums import add_numbers, program_digest
from hansa.program.cohorts import Cohorts, Positions
from hansa.program.evaluating import FederatedEvaluation
from hansa.program.private_folder import PrivateFolder, Secrets
from hansa.program.records import Scalar
from hansa.program.run_file import RunError
from hansa.program.run_folder import RunFolder
from hansa.templates import IterativeProcess

EPSILON = "privacy/epsilon"
"""The metric."""
SPENT = "the next round would exceed the privacy budget"
"""What the reason begins with for which a run stops that has spent its budget."""
_SALT_BYTES = 16


class PrivateProcess:
    """What a process releases in a round, and how its cohorts are drawn; checked before anything runs.

    Args:
        process: the process.
        cohorts: the data of its rounds.
        budget: what may be spent.
        rounds: how many rounds are asked for.

    Attributes:
        unit: whose data is protected as a whole: that of a client, or an example.
        family: how a round is accounted for.

    Raises:
        ValueError: if something leaves a round that is made of clients' values without noise, or its noise does not go
            with the cohorts.
    """

    def __init__(self, process: IterativeProcess, cohorts: Cohorts, budget: Budget, rounds: int) -> None:
        _check_private(process, budget)
        mechanisms = [release.mechanism for release in releases(process)]
        if not mechanisms:
            raise ValueError(
                "privacy= counts what noised sums cost, and no sum of this process has noise; write "
                "aggregator=hansa.privacy.gaussian(…) where the process is built, or leave out privacy"
            )
        self.budget, self._mechanisms, self._cohorts = budget, mechanisms, cohorts
        self._rule = next((each for each in mechanisms if isinstance(each, DPSGD)), None)
        if self._rule is not None:
            _check_sites(self._rule, cohorts)
        self.unit, self.family = self.charge(np.zeros(0, np.int64)).unit, self.charge(np.zeros(0, np.int64)).family
        longest = min((each.rounds for each in mechanisms if isinstance(each, Matrix)), default=rounds)
        if rounds > longest:
            raise ValueError(
                f"the correlated noise is for {longest} rounds, and rounds={rounds} are asked for; build the process "
                f"with hansa.privacy.matrix(…, rounds={rounds})"
            )
        self.nominal = cohorts.nominal
        self._of_model = [] if self._rule is not None else parts_of_model(process)
        self.is_correlated = self.family == "correlated"
        Accountant(budget.delta)
        self.program = program_digest(process.next)

    def charge(self, positions: Positions | None) -> Charge:
        """What a round costs, of a cohort at these positions."""
        if self._rule is None:
            return Charge(self._cohorts.claim, self._mechanisms)  # type: ignore[arg-type]
        assert positions is not None
        return Charge(Sites(tuple(self._cohorts.examples(positions, self._rule.max_examples))), [self._rule])

    def described(self) -> dict[str, Any]:
        """What a run that goes on must have asked the same."""
        budget = self.budget
        epsilon = None if math.isinf(budget.epsilon) else budget.epsilon
        unit = {} if self.unit == "client" else {"unit": self.unit}
        part = {"of_model": self._of_model} if self._of_model else {}
        return {"privacy": {"epsilon": epsilon, "delta": budget.delta, "metrics": budget.metrics, **unit, **part}}

    def spending(self, cohorts: Cohorts, folder: RunFolder | None) -> Spending:
        """The charges of a run: those in its folder, if it goes on; its cohorts are drawn by its secret from now on.

        Raises:
            LedgerError, RunError: if they are damaged or lost.
        """
        if folder is None:
            return Spending(self, Ledger(None), Secrets.fresh(), cohorts)
        private = PrivateFolder(folder.path)
        try:
            found = private.open(folder.resumed)
            ledger = Ledger(private.ledger)
        except OSError as error:
            raise RunError(f"{private.path} cannot be used: {error}") from error
        if self._rule is None:
            cohorts.keep_secret(found.cohorts)
        return Spending(self, ledger, found, cohorts)


class Spending:
    """The charges of a run under way.

    Args:
        private: what it releases in a round.
        ledger: its ledger, with what has been charged.
        secret: what its noise and its cohorts are drawn of.
        cohorts: the data of its rounds.

    Raises:
        LedgerError: if what has been charged cannot be accounted for with this run.
    """

    def __init__(self, private: PrivateProcess, ledger: Ledger, secret: Secrets, cohorts: Cohorts) -> None:
        self._private, self._ledger, self._secret, self._cohorts = private, ledger, secret, cohorts
        self._accountant, self._after = Accountant(private.budget.delta), 0.0
        list(charged(self._accountant, ledger.entries))

    def check_done(self, done: int) -> None:
        """Checks that each round that is done has been charged.

        Raises:
            LedgerError: if one has not: the ledger has lost it.
        """
        charged = {entry.round for entry in self._ledger.entries}
        lost = next((number for number in range(1, done + 1) if number not in charged), None)
        if lost is not None:
            raise LedgerError(
                f"the ledger has no entry of round {lost}, which is done: what has been spent is not known, so the run "
                "cannot go on"
            )

    def why_not(self, number: int, last: int) -> str | None:
        """Why there is no budget for a round; None if there is.

        Args:
            number: the round's.
            last: the number of the last round that is asked for.
        """
        budget = self._private.budget
        if number > last or math.isinf(budget.epsilon) or self._ledger.of_round(number):
            return None  # it has been charged
        named = self._private.family in ("counted", "examples")
        positions = self._cohorts.positions(number) if named else None
        charge = self._private.charge(positions)
        if self._accountant.has_room(charge, budget.epsilon, self._who(positions), last - number + 1):
            return None
        return (
            f"{SPENT}: epsilon {self._accountant.exact():.4g} of {budget.epsilon:g} at delta {budget.delta:g} is spent"
        )

    @contextlib.contextmanager
    def round(
        self, occasion: Occasion, state: Any, data: Any, positions: Positions | None, arguments: Mapping[str, Any]
    ) -> Iterator[None]:
        """Within it, an attempt at a round draws its noise; it has been charged before, or was charged now.

        Raises:
            LedgerError: if the round's noise was drawn for other inputs, and noise is correlated over rounds.
            RunError: if the ledger cannot be written; then no noise is drawn.
            BudgetSpentError: if the round was charged before, and there is no budget for another attempt.
        """
        inputs = self._inputs(state, data, arguments)
        before = [entry for entry in self._ledger.of_round(occasion.round) if entry.attempt == occasion.attempt]
        same = next((entry for entry in before if inputs is not None and entry.inputs == inputs), None)
        if same is not None:
            salt, self._after = bytes.fromhex(same.salt), same.epsilon_after
        else:
            if self._private.is_correlated and self._ledger.of_round(occasion.round):
                raise LedgerError(
                    f"round {occasion.round} was begun with other data or another program, and correlated noise must "
                    "not be drawn for two sums: the run cannot go on. Begin again in another folder"
                )
            # Of the inputs, so that the same ones have the same noise; of unknown ones it is never drawn again.
            salt = secrets.token_bytes(_SALT_BYTES) if inputs is None else bytes.fromhex(inputs)[:_SALT_BYTES]
            self._charge(occasion, salt, inputs, positions)
        with noise_of(self._secret.noise, salt=salt):
            yield

    def note(self, occasion: Occasion, counted: Counted | None) -> None:
        """Note in the ledger who was counted, where the runtime says it."""
        if counted is not None:
            left_out = {reason: list(clients) for reason, clients in counted.left_out.items()}
            self._ledger.note(occasion.round, occasion.attempt, counted.number, left_out)

    @property
    def metrics(self) -> dict[str, Scalar]:
        """What the record of the round says that was run last; of one that was made again, what it said before."""
        return {EPSILON: self._after}

    def guarantee(self, rounds: int) -> Guarantee:
        """What is promised after so many rounds."""
        return promised(self._accountant, self._ledger.entries, rounds, self._private.described()["privacy"])

    def by_site(self) -> dict[Any, float]:
        """The epsilon of each client's examples, where these are what is protected; else nothing."""
        return dict(self._accountant.by_site())

    def _charge(self, occasion: Occasion, salt: bytes, inputs: str | None, positions: Positions | None) -> None:
        charge, budget, clients = self._private.charge(positions), self._private.budget, self._who(positions)
        earlier = [entry.charge for entry in self._ledger.of_round(occasion.round)]
        if earlier and not self._accountant.has_room(charge, budget.epsilon, clients, earlier=earlier):
            raise BudgetSpentError(f"{SPENT}, after {len(earlier)} attempts at round {occasion.round}")
        self._accountant.add(charge, clients, earlier=earlier)
        self._after = self._accountant.epsilon
        try:
            self._ledger.append(
                occasion.round,
                occasion.attempt,
                charge,
                clients=clients,
                inputs=inputs,
                salt=salt,
                program=self._private.program or "",
                nominal=self._private.nominal,
                delta=budget.delta,
                epsilon_after=self._after,
            )
        except OSError as error:
            raise RunError(
                f"the ledger cannot be written: {error}. Without it round {occasion.round} draws no noise; the run "
                "goes on from its last checkpoint once it can be written"
            ) from error

    def _who(self, positions: Positions | None) -> list[Any] | None:
        return None if positions is None else self._cohorts.identities(positions)

    def _inputs(self, state: Any, data: Any, arguments: Mapping[str, Any]) -> str | None:
        """A digest of all that the sums of a round are made of; None where it cannot be known."""
        checksum = hashlib.sha256(f"{self._private.program} {_machine()}".encode())
        known = all(add_numbers(value, checksum) for value in (state, data, arguments))
        return checksum.hexdigest() if known and self._private.program is not None else None


def _check_private(process: IterativeProcess, budget: Budget) -> None:
    """Checks that all that leaves a round is private, but for metrics, where they are open."""
    if budget.metrics == "open":
        require_private(process, open=("metrics",))
        return
    try:
        require_private(process)
    except ValueError as error:
        add_note(
            error,
            'Where only metrics are made of clients without noise, hansa.privacy.Budget(…, metrics="open") lets them '
            "leave; then nothing is promised to those who see them.",
        )
        raise


def check_evaluation(evaluate: Any, cohorts: Cohorts, budget: Budget) -> None:
    """Checks that no metrics without noise are told of the clients whose data a run protects.

    Args:
        evaluate: what evaluates a state, of which the clients of a federated evaluation are known.
        cohorts: the data of the rounds.
        budget: what may be spent.

    Raises:
        ValueError: if clients are in both.
    """
    if budget.metrics == "open" or not isinstance(evaluate, FederatedEvaluation):
        return
    training = set(cohorts.client_ids)
    both = [client for client in evaluate.client_ids if client in training]
    if both:
        some = ", ".join(map(repr, both[:3])) + (", …" if len(both) > 3 else "")
        raise ValueError(
            f"evaluate tells metrics without noise of {len(both)} clients whose data the run protects: {some}; "
            "evaluate on clients that take part in no round, such as those of data.split(0.1, by='clients'), with "
            "identities of their own, or on examples that may be seen, evaluate=(keras_model, (x, y)). "
            'hansa.privacy.Budget(…, metrics="open") lets metrics leave; then nothing is promised to those who see them'
        )


def protects_examples(process: IterativeProcess) -> bool:
    """Whether clients add noise for each of their examples, and are not protected as a whole."""
    return any(isinstance(known_mechanism(each), DPSGD) for each in mechanisms_in(process.next))


def _check_sites(rule: DPSGD, cohorts: Cohorts) -> None:
    """Checks that the examples of each site can be counted, and that each is there once.

    Raises:
        ValueError: if they cannot.
    """
    if cohorts.is_elsewhere:
        raise ValueError(
            "privacy= counts what the examples of each client have cost, and of clients elsewhere only they themselves "
            "know it: each device draws its own noise, and accounts for it by its policy, [privacy] epsilon and delta; "
            "leave out privacy"
        )
    if cohorts.clients is None:
        raise ValueError(
            "privacy= counts what the examples of each client have cost, and data is a function, which does not say "
            "whose it gives; pass a hansa.simulation.ClientData"
        )
    if rule.batch_size is not None and not cohorts.knows_examples:
        raise ValueError(
            "with the batch_size of dpsgd each client's epsilon depends on how many examples it has, and data does not "
            "say that; pass a hansa.simulation.ClientData, or sampling_rate= in place of batch_size"
        )


def parts_of_model(process: IterativeProcess) -> list[int]:
    """The numbers of those noised sums that the state is made of, where other results are made of others."""
    found = [any(begins(path, "state") for path in release.paths) for release in releases(process)]
    return [number for number, is_of_state in enumerate(found) if is_of_state] if any(found) and not all(found) else []


def promised(accountant: Accountant, entries: Sequence[Entry], rounds: int, asked: Mapping[str, Any]) -> Guarantee:
    """What a run promises.

    Args:
        accountant: with what it was charged.
        entries: the charges.
        rounds: how many there were.
        asked: what it was asked of privacy, as its folder says it.
    """
    found = accountant.guarantee(rounds)
    if asked.get("unit") == "example" and not entries:
        found = replace(found, unit="example", neighbours=USED, against="the server")
    if asked.get("of_model") and entries:
        if max(asked["of_model"]) >= min(len(entry.charge.mechanisms) for entry in entries):
            raise LedgerError("what run.json says of the model's sums does not go with the ledger")
        alone = Accountant(accountant.delta)
        list(charged(alone, [replace(entry, charge=entry.charge.part(asked["of_model"])) for entry in entries]))
        found = replace(found, of_model=alone.exact())
    return replace(found, covers="model") if asked.get("metrics") == "open" else found


class BudgetSpentError(Exception):
    """There is no budget for another attempt at a round."""


def _machine() -> str:
    """What the last bits of sums may depend on."""
    return f"{jax.__version__} {jax.default_backend()} {jax.devices()[0].device_kind} {len(jax.devices())}"
