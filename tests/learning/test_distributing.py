"""What the server sends in messages of a codec: the numbers that clients start from, and the bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import hansa
from hansa import learning
from hansa.aggregators import codecs
from hansa.cli.config.choices import Algorithm, parameters
from hansa.learning import arithmetic
from tests.learning.algorithms import by_hand, plain, test_mime, test_scaffold
from tests.learning.algorithms.test_models import deep
from tests.learning.algorithms.test_runs import BUILDERS, population
from tests.program.digits import assert_same_bits

HALVES = codecs.Codec(
    "halves",
    lambda vector, key: {"halves": vector.astype(jnp.float16)},
    lambda message, size, key: message.halves.astype(jnp.float32),
    draws="nothing",
)
NUMBERS = plain.CLASSES * (plain.FEATURES + 1)
RATE = {"client_learning_rate": plain.RATE}


def halved(w: plain.Weights) -> plain.Weights:
    return plain.combine(lambda leaf: leaf.astype(np.float32).astype(np.float16).astype(np.float64), w)


def test_clients_start_from_what_they_decode_and_report_how_far_they_came() -> None:
    process = learning.build_federated_averaging_process(plain.model(), distributor=HALVES)
    assert process.settings["distributor"] == "halves()"
    w = plain.initial()
    for cohort in plain.COHORTS:
        there, sizes = halved(w), [plain.SIZES[client] for client in by_hand.counted(cohort)]
        ends = [by_hand.sgd(there, client) for client in by_hand.counted(cohort)]
        change = by_hand.subtract(by_hand.mean(ends, [float(size) for size in sizes]), there)
        w = plain.combine(np.add, w, change)
    plain.assert_close(by_hand.rounds(process).model.trainable, w, 1e-6)
    assert np.abs(halved(w)[1] - w[1]).max() > 1e-5  # so that it is another start


def bytes_down(process: Any) -> int:
    return int(hansa.explain(process.next).bytes_down)


def test_bytes_are_those_of_the_message() -> None:
    averaging = learning.build_federated_averaging_process
    saved = bytes_down(averaging(plain.model())) - bytes_down(averaging(plain.model(), distributor=HALVES))
    assert saved == 2 * NUMBERS
    plainly = bytes_down(averaging(plain.model())) - 4 * NUMBERS
    for codec, key in ((codecs.quantised(bits=8), 0), (codecs.random_k(share=0.5), 8)):  # where the draws are shared
        expected = plainly + key + codec.num_bytes(f"float32[{NUMBERS}]")
        assert bytes_down(averaging(plain.model(), distributor=codec)) == expected


def test_each_field_is_a_message_and_what_is_no_float_goes_as_it_is() -> None:
    def first(weights: Any) -> dict[str, Any]:
        seen = {"weights": weights.trainable, "twice": weights.trainable, "rounds": np.float32(0)}
        return {"seen": seen, "rounds": np.int32(0)}

    work = learning.local_training(
        finish=lambda at, weights, steps, n: (
            {"weights": at.sent.model.trainable, "twice": at.sent.twice, "rounds": 1.0 * at.sent.rounds},
            1.0,
            None,
        ),
        sent=lambda state: {
            "model": state.model,
            "twice": arithmetic.scale(2, state.model.trainable),
            "rounds": state.finalizer.rounds,
        },
    )

    def apply(state: Any, total: Any, num_clients: Any) -> Any:
        same = state.model._replace(trainable=arithmetic.scale(1.0, state.model.trainable))  # but not handed on
        return state._replace(model=same, finalizer={"seen": total, "rounds": state.finalizer.rounds + 1})

    finalizer = learning.Finalizer(apply, initial=first)
    process = learning.build_process(
        plain.model(), client_work=work, finalizer=finalizer, distributor=codecs.quantised(bits=2)
    )
    state = by_hand.rounds(process, [[0], [0]])
    kernel, seen = plain.initial()[1], state.finalizer.seen
    assert seen.rounds == 1
    step = np.ptp(np.append(kernel, 0)) / 3
    for found, true in ((seen.weights.kernel, kernel), (seen.twice.kernel / 2, kernel)):
        assert 1e-3 < np.abs(found - true).max() <= step + 1e-6
    assert np.abs(seen.weights.kernel - seen.twice.kernel / 2).max() > 1e-3  # of draws of its own
    assert len(np.unique(seen.weights.kernel)) <= 4


@pytest.mark.slow
def test_scaffold_corrects_its_steps_by_the_control_that_clients_have() -> None:
    """SCAFFOLD as in its paper, of x and c as clients decode them."""
    process = test_scaffold.build("II", distributor=HALVES)
    state = by_hand.rounds(process)
    x, c, own = test_scaffold.by_hand("II", halved)
    plain.assert_close(state.model.trainable, x, 2e-6)
    plain.assert_close(state.finalizer.control, c, 2e-6)
    plain.assert_close(state.clients["di"].work.control, own[3], 2e-6)
    assert np.abs(x[1] - test_scaffold.by_hand("II")[0][1]).max() > 8e-6
    bytes_saved = bytes_down(test_scaffold.build("II")) - bytes_down(process)
    assert bytes_saved == 2 * 2 * NUMBERS


@pytest.mark.slow
def test_both_phases_of_mime_have_what_was_sent() -> None:
    given = {"base_optimizer": optax.sgd(0.1, momentum=0.9), "client_weighting": "uniform"}
    process = learning.build_mime(plain.model(), server_learning_rate=0.7, distributor=HALVES, **given)
    state = by_hand.rounds(process)
    x, slots = test_mime.expected(test_mime.momentum, True, True, halved)
    plain.assert_close(state.model.trainable, x, 2e-6)
    plain.assert_close(state.optimizer_state.trace, slots[1], 2e-6)
    assert np.abs(x[1] - test_mime.expected(test_mime.momentum, True, True)[0][1]).max() > 1e-5


def test_every_algorithm_but_one_takes_a_distributor() -> None:
    without = {name for name in Algorithm.functions() if "distributor" not in parameters(Algorithm.function_of(name))}
    assert without == {"fed_ex_lora"}
    with pytest.raises(TypeError, match="distributor"):
        learning.build_fed_ex_lora(plain.model(), distributor=HALVES)  # type: ignore[call-arg]


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_every_algorithm_sends_half_of_its_numbers(name: str) -> None:
    with_codec = BUILDERS[name](plain.model(), distributor=HALVES)
    saved = bytes_down(BUILDERS[name](plain.model())) - bytes_down(with_codec)
    _, metrics = with_codec.next(with_codec.initialize(), population(name).select([0, 1, 3]))
    assert saved >= 2 * (plain.CLASSES if name == "fed_distill" else plain.FEATURES * plain.CLASSES)
    assert not metrics.num_non_finite_clients


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mime", "hyp_cluster", "ditto"])
def test_a_run_that_is_taken_up_again_draws_the_same(name: str, tmp_path: Path) -> None:
    process = BUILDERS[name](plain.model(), distributor=codecs.quantised(bits=4))

    def train(where: str, number: int) -> Any:
        cohort = lambda number: population(name).select(plain.COHORTS[number - 1])  # noqa: E731
        return hansa.program.train(process, cohort, number, run_dir=tmp_path / where, progress=False).state

    whole = train("whole", 3)
    train("other", 1)
    resumed = train("other", 3)
    keeps = isinstance(whole, learning.LearningState)
    assert_same_bits(resumed.server if keeps else resumed, whole.server if keeps else whole)


def test_what_cannot_be_a_distributor_is_refused() -> None:
    for wrong in (hansa.aggregators.quantised(bits=8), "quantised"):
        with pytest.raises(TypeError, match=r"must be a codec, such as hansa\.aggregators\.codecs\.quantised"):
            learning.build_federated_averaging_process(plain.model(), distributor=wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_survey_and_the_work_after_it_are_sent_one_model_and_a_saved_process_draws_the_same(tmp_path: Path) -> None:
    def told(at: Any, weights: Any, steps: Any, num_examples: Any) -> Any:
        return {"sent": at.sent.model.trainable}, 1.0, None

    def apply(state: Any, total: Any, num_clients: Any) -> Any:
        apart = arithmetic.subtract(total.sent, state.survey.sent)
        same = state.model._replace(trainable=arithmetic.scale(1.0, state.model.trainable))
        return state._replace(model=same, finalizer={"apart": apart, "sent": total.sent})

    work = replace(learning.local_training(finish=told), survey=learning.local_training(finish=told))
    first = {"apart": plain.model().initial_weights.trainable, "sent": plain.model().initial_weights.trainable}
    process = learning.build_process(
        plain.model(), client_work=work, finalizer=learning.Finalizer(apply, initial=first), distributor=codecs.drive()
    )
    state = by_hand.rounds(process, [[0, 1]])
    assert not np.any(state.finalizer.apart.kernel)
    assert np.abs(np.asarray(state.finalizer.sent.kernel) - plain.initial()[1]).max() > 1e-3
    hansa.save(process, tmp_path / "process")
    loaded = by_hand.rounds(hansa.load(tmp_path / "process"), [[0, 1]])
    with hansa.runtime(hansa.ReferenceRuntime()):
        reference = by_hand.rounds(process, [[0, 1]])
    for other in (loaded, reference):
        plain.assert_close(other.finalizer.sent, plain.as_numpy(state.finalizer.sent), 1e-6)


@pytest.mark.slow
def test_frozen_layers_are_sent_once_and_as_they_are() -> None:
    """Of a Keras model with a frozen layer the messages hold what is trained alone."""
    keras.utils.clear_session()
    model = deep()
    coded = learning.build_federated_averaging_process(model, distributor=HALVES)
    explained = hansa.explain(coded.next), hansa.explain(learning.build_federated_averaging_process(model).next)
    moving = sum(
        leaf.size
        for part in model.initial_weights
        for name, leaf in part._items()
        if not str(name).startswith("dense/") and leaf.dtype.kind == "f"
    )
    assert int(explained[1].bytes_down) - int(explained[0].bytes_down) == 2 * moving
