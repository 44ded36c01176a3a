"""Algorithms in runs that are taken up again, in files, in the reference runtime, and with Keras models."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np
import optax
import pytest

import hansa
from hansa import learning
from tests.learning.algorithms import plain
from tests.learning.algorithms.test_agnostic import population as with_domains
from tests.learning.algorithms.test_models import deep
from tests.program.digits import assert_same_bits

RATE = {"client_learning_rate": plain.RATE}
SGD = {"client_optimizer": "sgd", **RATE}


def by_predictions(output: Any, batch: Any) -> Any:
    return optax.softmax_cross_entropy_with_integer_labels(output.predictions, batch.y.reshape(-1))


DOMAINS = {"domain_weights": [0.2, 0.3, 0.5], "domain_learning_rate": 0.1, "domain_window_size": 2}

BUILDERS: dict[str, Callable[..., Any]] = {
    "agnostic": lambda model, **more: learning.build_agnostic(
        model, example_loss=by_predictions, **DOMAINS, **SGD, **more
    ),
    "fed_adam": lambda model, **more: learning.build_fed_adam(model, server_learning_rate=0.1, **SGD, **more),
    "fed_dyn": lambda model, **more: learning.build_fed_dyn(model, alpha=0.3, population=5, **SGD, **more),
    "fed_exp": lambda model, **more: learning.build_fed_exp(model, **SGD, **more),
    "fed_lc": lambda model, **more: learning.build_fed_lc(model, num_classes=plain.CLASSES, **SGD, **more),
    "fed_nova": lambda model, **more: learning.build_fed_nova(
        model, client_momentum=0.9, proximal_strength=0.1, **RATE, **more
    ),
    "fed_sam": lambda model, **more: learning.build_fed_sam(model, rho=0.1, **SGD, **more),
    "fed_sgd": lambda model, **more: learning.build_fed_sgd(model, **more),
    "hyp_cluster": lambda model, **more: learning.build_hyp_cluster(model, groups=2, **SGD, **more),
    "mime": lambda model, **more: learning.build_mime(model, base_optimizer=optax.sgd(0.1, momentum=0.9), **more),
    "mime_lite": lambda model, **more: learning.build_mime_lite(
        model, base_optimizer="adam", base_learning_rate=0.01, **more
    ),
    "moon": lambda model, **more: learning.build_moon(
        model, mu=1.0, features=lambda output: output.predictions, **SGD, **more
    ),
    "q_fed_avg": lambda model, **more: learning.build_q_fed_avg(model, q=1.0, **RATE, **more),
    # With personal models.
    "fed_per": lambda model, **more: learning.build_fed_per(model, personal="bias", **more),
    "fed_rep": lambda model, **more: learning.build_fed_rep(model, personal="bias", **more),
    "ditto": lambda model, **more: learning.build_ditto(model, lambda_=0.5, **more),
    "per_fed_avg": lambda model, **more: learning.build_per_fed_avg(model, alpha=0.1, variant="HF", **more),
    "p_fed_me": lambda model, **more: learning.build_p_fed_me(
        model, lambda_=2.0, personal_learning_rate=0.1, **RATE, **more
    ),
    "apfl": lambda model, **more: learning.build_apfl(model, **RATE, **more),
    "fed_distill": lambda model, **more: learning.build_fed_distill(model, num_classes=plain.CLASSES, **more),
    "reconstruction": lambda model, **more: learning.build_reconstruction(model, local="bias", **more),
}


def population(name: str) -> hansa.ClientBatches:
    return with_domains() if name == "agnostic" else plain.population()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "way"), list(zip(BUILDERS, cycle(["file", None, "reference", None]), strict=False)))
def test_a_run_that_is_taken_up_again_has_the_same_bits(name: str, way: str | None, tmp_path: Path) -> None:
    """Some go through a file, too, and some through the reference runtime; among all tests all go through both."""
    process, data = BUILDERS[name](plain.model()), population(name)

    def train(where: str, number: int) -> Any:
        cohort = lambda number: data.select(plain.COHORTS[number - 1])  # noqa: E731
        return hansa.program.train(process, cohort, number, run_dir=tmp_path / where, progress=False).state

    whole = train("whole", 3)
    train("other", 1)
    resumed = train("other", 3)
    keeps = isinstance(whole, learning.LearningState)
    assert_same_bits(resumed.server if keeps else resumed, whole.server if keeps else whole)
    for client in plain.IDS if keeps else ():
        assert_same_bits(resumed.clients[client], whole.clients[client])
    if way is not None:
        assert_same_numbers(WAYS[way](process, tmp_path)(data), whole)


@pytest.mark.whole
@pytest.mark.parametrize("name", BUILDERS)
def test_a_file_and_the_reference_have_the_same_numbers(name: str, tmp_path: Path) -> None:
    process, data = BUILDERS[name](plain.model()), population(name)
    expected = rounds(process, data)
    for way in WAYS.values():
        assert_same_numbers(way(process, tmp_path)(data), expected)


def assert_same_numbers(found: Any, expected: Any) -> None:
    """Checks two states, and what clients keep in them."""
    assert type(found) is type(expected)
    plain.assert_close(found.model.trainable, plain.as_numpy(expected.model.trainable))
    for client in plain.IDS if isinstance(expected, learning.LearningState) else ():
        pairs = zip(jax.tree.leaves(found.clients[client]), jax.tree.leaves(expected.clients[client]), strict=True)
        assert all(np.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in pairs)


def rounds(process: Any, data: hansa.ClientBatches) -> Any:
    """The state after the rounds."""
    state = process.initialize()
    for cohort in plain.COHORTS:
        state, _ = process.next(state, data.select(cohort))
    return state


def of_a_file(process: Any, folder: Path) -> Callable[[Any], Any]:
    """What the process in a file makes of data."""
    hansa.save(process, folder / "process")
    return partial(rounds, hansa.load(folder / "process"))


def of_the_reference(process: Any, folder: Path) -> Callable[[Any], Any]:
    """What the reference runtime makes of data."""

    def run(data: Any) -> Any:
        with hansa.runtime(hansa.ReferenceRuntime()):
            return rounds(process, data)

    return run


WAYS = {"file": of_a_file, "reference": of_the_reference}
KERAS = ["fed_nova", "mime", "moon", "agnostic"]
"""Those of which each has something of its own: a scaled update, a survey, forward passes more, and other batches."""
MORE_KERAS = ["fed_dyn", "fed_lc", "fed_sam", "fed_sgd", "hyp_cluster"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*KERAS, *(pytest.param(name, marks=pytest.mark.whole) for name in MORE_KERAS)])
def test_a_keras_model_with_statistics_and_a_frozen_layer(name: str) -> None:
    keras.utils.clear_session()  # so that layers have the names of a new process
    model = deep()
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(30, 6)).astype(np.float32), "y": rng.integers(0, 3, (30, 1)).astype(np.int32)}
    more = {"domain_id": rng.integers(0, 3, 30).astype(np.int32)} if name == "agnostic" else {}
    cohort = hansa.ClientBatches({**arrays, **more}, [0, 10, 20, 30], 5, ["ann", "bo", "cy"])
    process = BUILDERS[name](model)
    first = process.initialize()
    state, metrics = process.next(first, cohort)
    assert not metrics.model_unchanged and not metrics.num_non_finite_clients
    changed = {
        str(key)
        for part in ("trainable", "non_trainable")
        for key, leaf in state.model[part]._items()
        if np.any(np.asarray(leaf) != np.asarray(first.model[part][key]))
    }
    assert {"dense_1/kernel", "batch_normalization/moving_mean"} <= changed
    assert not changed & {"dense/kernel", "dense/bias"}
