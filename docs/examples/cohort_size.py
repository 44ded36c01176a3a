"""How many clients should take part in a round? Federated averaging of MNIST with cohorts of 1 to 100 clients.

    python docs/examples/cohort_size.py            measures what is not in the table yet
    python docs/examples/cohort_size.py --seconds  measures the seconds per round anew, and keeps the rounds
    python docs/examples/cohort_size.py --draw     draws the picture from what was measured

The numbers are written to cohort_size.csv beside this file, the picture to docs/images/cohort_size.png.
"""

import argparse
import csv
import statistics
import time
from pathlib import Path

import hansa  # before keras: it then runs on JAX

# isort: split
import keras
import numpy as np
from matplotlib.figure import Figure

from hansa.simulation import ClientData, UniformSampler, partition_dirichlet

TABLE = Path(__file__).with_suffix(".csv")
PICTURE = Path(__file__).parents[1] / "images" / "cohort_size.png"
CLIENTS, BATCH_SIZE, LEARNING_RATE, ALPHA = 100, 20, 0.1, 1.0
COHORT_SIZES = (1, 2, 5, 10, 20, 50, 100)
TARGET, MOST_ROUNDS, TIMED_ROUNDS = 0.95, 500, 8


def flat(images):
    """Images as rows of numbers from 0 to 1."""
    return images.reshape(len(images), -1).astype("float32") / 255


def population(images, labels, clients=CLIENTS):
    """Clients with different shares of the labels, and different numbers of examples."""
    client_of = partition_dirichlet(labels, clients, ALPHA, seed=0)
    data = ClientData.from_arrays({"x": flat(images), "y": labels.astype("int32")}, client_of)
    return data.shuffle(seed=0).batch(BATCH_SIZE)


def make_keras_model(pixels):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((pixels,)),
            keras.layers.Dense(100, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.SGD(LEARNING_RATE), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def averaging(data):
    """Federated averaging: each client of the cohort goes through its examples once in a round."""
    pixels = data.client(data.client_ids[0])["x"].shape[1]

    def model_fn():
        return hansa.learning.from_compiled_keras_model(make_keras_model(pixels), data.client(data.client_ids[0]))

    return hansa.learning.build_federated_averaging_process(model_fn)


def rounds_to_target(process, data, cohort_size, test_images, test_labels, target=TARGET, most_rounds=MOST_ROUNDS):
    """The first round after which the test accuracy is the target, and the examples trained on until then.

    The round is None if there is none up to `most_rounds`.
    """
    x = flat(test_images)
    model = make_keras_model(x.shape[1])

    def evaluate(state):
        state.model.assign_weights_to(model)
        return {"accuracy": (np.asarray(model(x)).argmax(1) == test_labels).mean()}

    def stop(round_number, state, metrics):
        return "the target is reached" if metrics["evaluation/accuracy"] >= target else None

    sampler = UniformSampler(len(data), cohort_size, seed=1)
    result = hansa.program.train(
        process, data, most_rounds, sampler=sampler, evaluate=evaluate, callbacks=[stop], progress=False
    )
    examples = sum(int(data.sizes[sampler(number)].sum()) for number in range(1, result.rounds + 1))
    return result.rounds if result.stopped else None, examples


def seconds_per_round(process, data, cohort_size, rounds=TIMED_ROUNDS):
    """The median of some rounds without evaluation, after two that may be compiled."""
    ends = []
    sampler = UniformSampler(len(data), cohort_size, seed=1)
    hansa.program.train(
        process,
        data,
        rounds + 2,
        sampler=sampler,
        callbacks=[lambda *_: ends.append(time.perf_counter())],
        progress=False,
    )
    return statistics.median(np.diff(ends)[1:])


def draw(rows):
    """Seconds per round, and rounds and examples until the target, over the size of the cohort."""
    blue, ink, quiet = "#0b6e99", "#1f2933", "#616e7c"
    sizes = [row["cohort_size"] for row in rows]
    figure = Figure(figsize=(13, 4.7), dpi=160, facecolor="white")
    figure.subplots_adjust(left=0.045, right=0.985, top=0.72, bottom=0.14, wspace=0.2)
    figure.text(0.02, 0.925, "How many clients in a round?", fontsize=15, fontweight="bold", color=ink)
    setting = f"Federated averaging of MNIST, {CLIENTS} clients, Dirichlet {ALPHA:g}, until {TARGET:.0%} test accuracy"
    figure.text(0.02, 0.862, setting, fontsize=10.5, color=quiet)
    panels = (
        ("Seconds per round", "seconds", "{:.2g}"),
        ("Rounds to the target", "rounds", "{:.0f}"),
        ("Examples until then, in millions", "examples", "{:.2g}"),
    )
    for axes, (title, name, form) in zip(figure.subplots(1, 3), panels, strict=True):
        values = [None if row["rounds"] is None and name != "seconds" else row[name] for row in rows]
        values = [value / 1e6 if name == "examples" and value is not None else value for value in values]
        known = [(size, value) for size, value in zip(sizes, values, strict=True) if value is not None]
        axes.plot(*zip(*known, strict=True), color=blue, linewidth=2.2, marker="o", markersize=6, clip_on=False)
        axes.set_title(title, loc="left", fontsize=11.5, fontweight="bold", color=ink, pad=14)
        axes.set_xscale("log")
        axes.set_xlim(0.85, 130)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("Clients in a round", fontsize=10, color=quiet)
        axes.set_ylim(0, 1.15 * max(value for _, value in known))
        axes.set_yticks([])
        axes.tick_params(length=0, labelsize=9.5, labelcolor=quiet, pad=6)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color("#cbd2d9")
        for size, value in known:
            axes.annotate(
                form.format(value), (size, value), xytext=(0 if name == "rounds" else -9, 9),
                textcoords="offset points", ha="center",
                fontsize=9.5, color=ink,
            )  # fmt: skip
        for size, value in zip(sizes, values, strict=True):
            if value is None:
                axes.annotate(
                    f"not in {MOST_ROUNDS}\nrounds", (size, 0), xytext=(0, 8), textcoords="offset points", ha="center",
                    fontsize=8.5, color=quiet,
                )  # fmt: skip
    return figure


def read():
    """What was measured until now, a row for each cohort size; None where something was not."""
    if not TABLE.exists():
        return []
    with TABLE.open(newline="") as file:
        return [
            {
                "cohort_size": int(row["cohort_size"]),
                "rounds": int(row["rounds"]) if row["rounds"] else None,
                "examples": int(row["examples"]),
                "seconds": float(row["seconds"]) if row["seconds"] else None,
            }
            for row in csv.DictReader(file)
        ]


def write(rows):
    with TABLE.open("w", newline="") as file:
        table = csv.DictWriter(file, ["cohort_size", "rounds", "examples", "seconds"], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", action="store_true", help="measure the seconds per round anew")
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    if not arguments.draw:
        mnist = hansa.simulation.load_mnist()
        data = population(mnist.train_images, mnist.train_labels)
        process = averaging(data)
        rows = read()
        known = [row["cohort_size"] for row in rows]
        for size in COHORT_SIZES:
            if size not in known:
                rounds, examples = rounds_to_target(process, data, size, mnist.test_images, mnist.test_labels)
                rows.append({"cohort_size": size, "rounds": rounds, "examples": examples, "seconds": None})
                print(rows[-1], flush=True)
                write(rows)
        for row in rows:
            if arguments.seconds or row["seconds"] is None:
                row["seconds"] = round(float(seconds_per_round(process, data, row["cohort_size"])), 4)
                print(row, flush=True)
                write(rows)
    draw(read()).savefig(PICTURE)
    print(PICTURE)


if __name__ == "__main__":
    main()
