"""Processes of parts: hooks, what is checked where parts meet, state of all kinds, and the parts by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa import CLIENTS, SERVER, FederatedType, aggregators, templates
from hansa.learning import Finalizer, arithmetic, build_process, local_training
from tests.learning.algorithms import plain
from tests.program.digits import assert_same_bits

MODEL = plain.model()
LEFT_OUT = [2, 4]


def rounds(process: Any, cohorts: list[list[int]] = plain.COHORTS) -> Any:
    state = process.initialize()
    for cohort in cohorts:
        state, _ = process.next(state, plain.population().select(cohort))
    return state


def test_hooks_that_change_nothing_leave_the_bits_of_averaging() -> None:
    work = local_training(
        begin=lambda at: at.sent.model,
        gradient=lambda take, weights, batch, at: take(weights, batch),
        direction=lambda gradient, weights, at: gradient,
        finish=lambda at, weights, steps, n: (arithmetic.difference(weights, at.sent.model), None, None),
    )
    composed = rounds(build_process(MODEL, client_work=work))
    assert_same_bits(composed, rounds(hansa.learning.build_federated_averaging_process(MODEL)))


def test_a_gradient_at_other_weights_of_another_loss() -> None:
    """A step of sharpness-aware minimisation, with the weights' norm in the loss."""

    def gradient(take: Any, weights: Any, batch: Any, at: Any) -> Any:
        loss = lambda weights, output, batch: output.loss + 0.1 * arithmetic.squared_norm(weights.trainable)  # noqa: E731
        forward, up = take(weights, batch, loss)
        shifted = arithmetic.add_scaled(weights.trainable, 0.05 / jnp.sqrt(arithmetic.squared_norm(up)), up)
        return forward, take(weights._replace(trainable=shifted), batch, loss)[1]

    state = rounds(build_process(MODEL, client_work=local_training(gradient=gradient)), [[0]])
    w = plain.initial()
    of = lambda w, batch: plain.combine(lambda g, w: g + 0.2 * w, plain.gradient(w, batch), w)  # noqa: E731
    for batch in plain.batches(0):
        up = of(w, batch)
        norm = np.sqrt(sum((part**2).sum() for part in up))
        shifted = plain.combine(lambda w, g, norm=norm: w + 0.05 / norm * g, w, up)
        w = plain.combine(lambda w, g: w - plain.RATE * g, w, of(shifted, batch))
    plain.assert_close(state.model.trainable, w)


def counting(**more: Any) -> Any:
    """Averaging whose clients count in how many rounds they had a part."""

    def finish(at: Any, weights: Any, steps: Any, n: Any) -> Any:
        return arithmetic.difference(weights, at.sent.model), n, {"rounds": at.own.rounds + 1}

    work = local_training(finish=finish, own={"rounds": np.int32(0)})
    return build_process(MODEL, client_work=work, **more)


def test_who_is_left_out_keeps_what_it_had_and_where_nobody_counts_all_stays() -> None:
    process = counting(aggregator=aggregators.clipping(bound=1.0, quantile=0.5))
    state = rounds(process)
    assert [int(state.clients[name].work.rounds) for name in plain.IDS] == [2, 2, 0, 2, 0]
    assert state.aggregator.bound != 1.0
    after, metrics = process.next(state, plain.population().select(LEFT_OUT))
    assert metrics.model_unchanged and after == state
    assert type(after) is hansa.learning.LearningState and after.model is after.server.model


def remembering() -> Any:
    """A mean that keeps the sum of each client's own values at the client, and a count of rounds at the server."""

    def create(value: Any, weight: Any) -> Any:
        zeros = hansa.jax_computation(lambda: {name: np.zeros(leaf.shape, "float32") for name, leaf in value[0].fields})

        @hansa.federated_computation
        def initialize() -> Any:
            return {"server": hansa.federated_value(0, SERVER), "clients": hansa.federated_value(zeros(), CLIENTS)}

        kinds = initialize.type_signature.result
        state = {"server": kinds["server"], "clients": FederatedType(kinds["clients"].member, CLIENTS)}
        add = hansa.jax_computation(lambda a, b, weight: arithmetic.choose(weight > 0, arithmetic.add(a, b), a))
        more = hansa.jax_computation(lambda n: n + 1)

        @hansa.federated_computation(state, FederatedType(value, CLIENTS), FederatedType(weight, CLIENTS))
        def next(state: Any, value: Any, weight: Any) -> Any:
            kept = hansa.federated_map(add, [state.clients, value.trainable, weight])
            after = {"server": hansa.federated_map(more, state.server), "clients": kept}
            mean = hansa.federated_mean(value, weight)
            return templates.MeasuredOutput(after, mean, hansa.federated_value([], SERVER))

        return aggregators.Aggregation(initialize, next)

    return aggregators.Factory("remembering", create)


def test_an_aggregator_keeps_something_at_the_clients_beside_what_their_work_keeps() -> None:
    state = rounds(counting(aggregator=remembering()), [[3, 4]])
    assert state.clients[plain.IDS[3]]._fields == ("work", "aggregator") and state.aggregator == 1
    moved = arithmetic.subtract(state.model.trainable, MODEL.initial_weights.trainable)
    plain.assert_close(state.clients[plain.IDS[3]].aggregator, plain.as_numpy(moved))
    plain.assert_close(state.clients[plain.IDS[4]].aggregator, plain.zeros())
    only = build_process(MODEL, client_work=local_training(), aggregator=remembering())
    assert rounds(only, [[3]]).clients[plain.IDS[3]]._fields == ("aggregator",)


def test_a_run_with_state_at_the_clients_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    process = counting(aggregator=remembering())

    def train(folder: str, number: int) -> Any:
        cohort = lambda number: plain.population().select(plain.COHORTS[number - 1])  # noqa: E731
        return hansa.program.train(process, cohort, number, run_dir=tmp_path / folder).state

    whole = train("whole", 3)
    train("other", 1)
    resumed = train("other", 3)
    assert_same_bits(resumed.server, whole.server)
    assert resumed == whole and type(resumed) is hansa.learning.LearningState


def test_the_work_of_a_client_is_a_computation_of_its_own() -> None:
    work = build_process(MODEL, client_work=local_training()).client_work
    data = [{"x": x.astype(np.float32), "y": y} for x, y in plain.batches(1)]
    report = work.run({"sent": {"model": MODEL.initial_weights}, "key": np.zeros(2, np.uint32)}, data)
    w = plain.initial()
    for batch in plain.batches(1):
        w = plain.combine(lambda w, g: w - plain.RATE * g, w, plain.gradient(w, batch))
    plain.assert_close(report.update.trainable, plain.combine(np.subtract, w, plain.initial()))
    assert (report.used, report.weight) == (1, plain.SIZES[1])


def test_each_client_is_evaluated_with_its_own_weights() -> None:
    def finish(at: Any, weights: Any, steps: Any, n: Any) -> Any:
        shared = arithmetic.difference(weights, at.sent.model)
        return shared, n, {"bias": weights.trainable.bias + 1, "seen": jnp.bool_(True)}

    def personal(at: Any) -> Any:
        trained = at.sent.model.trainable
        return at.sent.model._replace(
            trainable=trained._replace(bias=jnp.where(at.own.seen, at.own.bias, trained.bias))
        )

    own = lambda weights: {"bias": weights.trainable.bias, "seen": np.bool_(False)}  # noqa: E731
    process = build_process(MODEL, client_work=local_training(own=own, finish=finish, personal=personal))
    evaluation = hansa.learning.build_per_client_evaluation(process)
    state = rounds(process, [[0]])
    for each in (process.initialize(), state):
        for client in (0, 1):
            kernel, bias = np.float64(each.model.trainable.kernel), np.float64(each.model.trainable.bias)
            if client == 0 and each is state:
                bias = np.float64(each.clients["ann"].work.bias)
            found = evaluation(each, plain.population().select([client]))[0]
            assert found.metrics.loss == pytest.approx(plain.loss((bias, kernel), plain.all_of(client)), rel=1e-5)


def untrained() -> Any:
    """A model that trains itself."""
    spec = f"<x=float32[?,{plain.FEATURES}],y=int32[?]>"
    output = hansa.learning.BatchOutput(jnp.float32(0))
    weights = {"kernel": np.zeros(2, np.float32)}
    return hansa.learning.functional_model(
        weights,
        lambda w, batch, training, rng: output,
        input_spec=spec,
        train_on_batch=lambda w, batch, rng: (w, output),
        name="own",
    )


DIFFERENT = {
    "no work": ({"client_work": lambda: None}, "client_work must be a hansa.learning.ClientWork"),
    "no finalizer": ({"finalizer": "sgd"}, "finalizer must be a hansa.learning.Finalizer"),
    "update and optimizer": (
        {"client_work": local_training(finish=lambda at, w, steps, n: ({"bias": w.trainable.bias}, n, None))},
        r"apply_optimizer takes an update of the model's weights, <trainable=<bias=float32\[3\],.* <bias=float32\[3\]>",
    ),
    "aggregation of another type": (
        {"aggregator": aggregators.median()("float32[7]")},
        r"the aggregator takes values of type float32\[7\], and the clients' updates have the type <trainable=",
    ),
    "finalizer and state": (
        {"finalizer": Finalizer(lambda state, total, n: state._replace(model={"w": state.model.trainable.bias}))},
        r"the finalizer must give the state that it takes, <model=<trainable=.*it gives <model=<w=float32\[3\]>",
    ),
    "begin and weights": (
        {"client_work": local_training(begin=lambda at: at.sent.model.trainable)},
        r"`begin` must give the weights of the model '.*', of type <trainable=.*found <bias=float32\[3\]",
    ),
    "direction and gradient": (
        {"client_work": local_training(direction=lambda g, w, at: {"bias": g.bias})},
        r"`direction` must give a struct like the gradient, of type <bias=.*; found <bias=float32\[3\]>",
    ),
    "kept and first": (
        {"client_work": local_training(own={"n": np.int32(0)}, finish=lambda at, w, s, n: (w, n, {"n": 1.0}))},
        "`finish` must give what a client keeps, like `own`, of type <n=int32>; found <n=float32>",
    ),
    "two things of finish": (
        {"client_work": local_training(finish=lambda at, w, steps, n: (w, n))},
        "`finish` must give three things",
    ),
    "hyper-parameters": (
        {
            "client_work": local_training(hparams={"rate": 0.1}),
            "finalizer": Finalizer(lambda state, total, n: state, hparams={"rate": 1.0}),
        },
        "the hyper-parameter 'rate' is 0.1 in client_work and 1.0 in finalizer",
    ),
    "a model that trains itself": (
        {"model_fn": untrained(), "client_work": local_training(direction=lambda g, w, at: g)},
        "`direction` changes the gradient .* the model 'own' trains itself .* pass a client_optimizer",
    ),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_parts_that_do_not_fit_are_refused_where_they_meet(name: str) -> None:
    given, message = DIFFERENT[name]
    with pytest.raises((TypeError, ValueError), match=message):
        build_process(**{"model_fn": MODEL, "client_work": local_training(), **given})  # type: ignore[arg-type]
