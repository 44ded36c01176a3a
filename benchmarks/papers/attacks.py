"""Eight rules that make one update of the clients' updates, and four attacks on them.

python -m benchmarks.papers.attacks [--quick] [--out FOLDER] [--picture FILE]

Four of twenty clients attack, the same in each round: they report minus their update (Li et al. 2019,
arXiv:1811.03761), or noise in place of it (Blanchard et al. 2017, arXiv:1703.02757), or -10 times it (Bagdasaryan et
al. 2020, arXiv:1807.00459), or they train on wrong labels, 9 - y for y (Fang et al. 2020, arXiv:1911.11815). All
clients take part in each round. They have images of MNIST dealt out at random, or each few of the digits, in shares of
Dir(0.3).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import optax

from benchmarks.papers.data import mnist, population
from benchmarks.papers.experiment import Experiment, Results, Rows
from benchmarks.papers.models import network
from benchmarks.papers.pictures import Picture, coloured_table, panels
from benchmarks.papers.training import Test, trained
from hansa import aggregators, learning
from hansa.aggregators import Factory, attacks
from hansa.simulation import ClientData, partition_dirichlet, partition_iid

CLIENTS, ATTACKERS = 20, 4
SHARE = ATTACKERS / CLIENTS
RULES: dict[str, Factory] = {
    "mean": aggregators.mean(),
    "clipping": aggregators.clipping(quantile=0.5),
    "median": aggregators.median(),
    "trimmed mean": aggregators.trimmed_mean(SHARE),
    "Krum": aggregators.krum(ATTACKERS),
    "Multi-Krum": aggregators.multi_krum(ATTACKERS, keep=CLIENTS - 2 * ATTACKERS),
    "Bulyan": aggregators.bulyan(ATTACKERS),
    "geometric median": aggregators.geometric_median(),
}
# The first seed by which as many attack as the rules are told.
SEED = next(seed for seed in range(1000) if len(attacks.attackers(range(CLIENTS), share=SHARE, seed=seed)) == ATTACKERS)
ATTACKS: dict[str, Callable[[Factory], Factory]] = {
    "nobody": lambda rule: rule,
    "sign flip": lambda rule: attacks.sign_flip(rule, share=SHARE, seed=SEED),
    "noise": lambda rule: attacks.gaussian_noise(rule, share=SHARE, stddev=1.0, seed=SEED),
    "-10 x": lambda rule: attacks.scaled(rule, share=SHARE, factor=-10.0, seed=SEED),
    "wrong labels": lambda rule: rule,
}
WHOSE = {"dealt at random": None, "Dir(0.3)": 0.3}


@dataclass(frozen=True)
class Settings:
    """The sizes."""

    images: int = 12_000
    rounds: int = 20
    epochs: int = 2
    rate: float = 0.1
    rules: tuple[str, ...] = tuple(RULES)


QUICK = Settings(images=1_000, rounds=2, epochs=1, rules=("median",))


def measure(settings: Settings, results: Results) -> Rows:
    """A row for each rule and way to deal out images, with the accuracy under each attack."""
    data = mnist(settings.images)
    model = network((784, 10), optimizer=optax.sgd(settings.rate))
    test = functools.cache(lambda: Test(model, data.test_x, data.test_y))

    @functools.cache
    def process(rule: str, attack: str) -> learning.LearningProcess:
        rule_under_attack = ATTACKS[attack](RULES[rule])
        return learning.build_federated_averaging_process(
            model, aggregator=rule_under_attack, client_weighting="uniform"
        )

    def clients(alpha: float | None, attack: str) -> ClientData:
        client_of = (
            partition_iid(len(data.y), CLIENTS)
            if alpha is None
            else partition_dirichlet(data.y, CLIENTS, alpha, min_examples=10)
        )
        honest = population(data.x, data.y, client_of)
        if attack == "wrong labels":
            liars = attacks.attackers(range(CLIENTS), share=SHARE, seed=SEED)
            honest = honest.flip_labels(liars, num_classes=10)
        return honest.shuffle(seed=0).repeat(settings.epochs).batch(50)

    def accuracy(rule: str, attack: str, alpha: float | None) -> float:
        # Who trains on wrong labels reports the update of that: the process is that of honest clients.
        known = process(rule, "nobody" if attack == "wrong labels" else attack)
        _, found = trained(
            known, clients(alpha, attack), test(), rounds=settings.rounds, evaluate_every=settings.rounds
        )
        return found[-1]

    return [
        {
            "clients": whose,
            "rule": rule,
            **{attack: results.once(f"{rule}, {attack}, {whose}", accuracy, rule, attack, alpha) for attack in ATTACKS},
        }
        for whose, alpha in WHOSE.items()
        for rule in settings.rules
    ]


def draw(rows: Rows) -> Picture:
    """The accuracies as a table in colours, a panel for each way to deal out images."""
    picture, axes = panels(len(WHOSE), (10.5, 4.2))
    for panel, whose in zip(axes, WHOSE, strict=True):
        found = [row for row in rows if row["clients"] == whose]
        values = [[row[attack] for attack in ATTACKS] for row in found]
        coloured_table(panel, f"Images: {whose}", [row["rule"] for row in found], list(ATTACKS), values)
    return picture


EXPERIMENT = Experiment("attacks", __doc__, Settings(), QUICK, measure, draw)

if __name__ == "__main__":
    EXPERIMENT.run()
