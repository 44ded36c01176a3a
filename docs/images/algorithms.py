"""Draws algorithms.svg: python docs/images/algorithms.py"""

from pathlib import Path

import matplotlib
import numpy as np
import optax

import hansa
from hansa import learning
from hansa._figure_style import BLUE, GREY, QUIET, RED, Picture, style

PICTURE = Path(__file__).with_suffix(".svg")
ROUNDS, SEEDS = 60, (0, 1, 2)
COLOURS = {"averaging": GREY, "FedProx": RED, "SCAFFOLD": BLUE, "FedPer": RED, "Ditto": BLUE}


def forward(weights, batch, training, rng):
    logits = batch.x @ weights["kernel"] + weights["bias"]
    return learning.BatchOutput(optax.softmax_cross_entropy_with_integer_labels(logits, batch.y).mean(), logits)


def model():
    """Softmax regression on the digits."""
    return learning.functional_model(
        {"kernel": np.zeros((64, 10)), "bias": np.zeros(10)},
        forward,
        input_spec="<x=float32[?,64],y=int32[?]>",
        metrics={"accuracy": lambda labels, logits, sample_weight: logits.argmax(axis=1) == labels},
        optimizer=optax.sgd(0.2),
    )


def population():
    """Twenty clients, most of whom have few digits, and a fifth of the examples of each, which is held out."""
    digits = hansa.simulation.load_digits()
    owner = hansa.simulation.partition_dirichlet(digits.train_labels, clients=20, alpha=0.1, seed=0)
    arrays = {"x": digits.train_images, "y": digits.train_labels}
    training, held_out = hansa.simulation.ClientData.from_arrays(arrays, owner).split(0.2, by="examples", seed=0)
    return training.shuffle(0).repeat(5).batch(20), held_out.batch(250)


def processes():
    """The algorithms that are compared, by name."""
    network = model()
    return {
        "averaging": learning.build_federated_averaging_process(network),
        "FedProx": learning.build_fed_prox(network, proximal_strength=0.3),
        "SCAFFOLD": learning.build_scaffold(network, client_learning_rate=0.2, population=20),
        "FedPer": learning.build_fed_per(network, personal="bias"),
        "Ditto": learning.build_ditto(network, lambda_=0.3),
    }


def trained(process, rounds, seed):
    """The state after some rounds of four clients, and the accuracy on what is held out after each."""
    training, held_out = population()
    evaluation = learning.build_federated_evaluation(process.model)
    result = hansa.program.train(
        process, training, rounds=rounds, cohort_size=4, seed=seed, evaluate=(evaluation, held_out), progress=False
    )
    return result.state, np.array(result.history["evaluation/accuracy"])


def of_each(process, state):
    """The accuracy of each client on what it has held out, with its own weights, from the least."""
    _, held_out = population()
    results = learning.build_per_client_evaluation(process)(state, held_out.cohort(np.arange(len(held_out))))
    found = learning.ClientMetrics.of(results)
    return np.sort(found.values["accuracy"][found.num_examples > 0])


def curves(seeds=SEEDS):
    """The accuracy of the model of all after each round, the mean over seeds."""
    known = processes()
    names = ("averaging", "FedProx", "SCAFFOLD")
    return {name: np.mean([trained(known[name], ROUNDS, seed)[1] for seed in seeds], axis=0) for name in names}


def at_clients():
    """The accuracy at each client after all rounds, from the least."""
    known = processes()
    return {name: of_each(known[name], trained(known[name], ROUNDS, 0)[0]) for name in ("averaging", "FedPer", "Ditto")}


def figure():
    """Two panels: one model over the rounds, and models of each client's own after them."""
    picture = Picture((10, 4))
    left, right = picture.subplots(1, 2)
    for name, curve in curves().items():
        left.plot(np.arange(1, ROUNDS + 1), curve, color=COLOURS[name], linewidth=1.8, label=name)
    for name, found in at_clients().items():
        right.plot(np.arange(1, len(found) + 1), found, color=COLOURS[name], marker="o", markersize=3.5, label=name)
    style(left, "One model for all: accuracy on held-out images", "round")
    style(right, "At each client: its own held-out images", "clients, from the least accuracy")
    right.set_xticks([1, 5, 10, 15, 20])
    for axes in (left, right):
        axes.set_ylim(0, 1.02)
        axes.legend(loc="lower right", frameon=False, fontsize=9.5, labelcolor=QUIET)
    picture.tight_layout()
    return picture


if __name__ == "__main__":
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "hansa"}):
        figure().savefig(PICTURE, metadata={"Date": None})
    print(PICTURE)
