"""One client's round is an epoch of `keras_model.fit(shuffle=False)`, whatever Keras optimizer the user made."""

from collections import OrderedDict
from itertools import product

import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest
from keras import ops, optimizers

import hansa
from hansa.learning import BatchOutput

rng = np.random.default_rng(0)
X = rng.normal(size=(10, 3)).astype("float32")
Y = rng.normal(size=(10, 2)).astype("float32")
BATCHES = [OrderedDict(x=X[i : i + 4], y=Y[i : i + 4]) for i in range(0, 10, 4)]
WEIGHTS = [rng.normal(size=shape).astype("float32") for shape in ((3, 2), (2,), (2, 2), (2,))]

WRAPPERS = (optimizers.Optimizer, optimizers.LossScaleOptimizer, optimizers.MultiOptimizer)
KINDS = [
    kind
    for kind in vars(optimizers).values()
    if isinstance(kind, type) and issubclass(kind, optimizers.Optimizer) and kind not in WRAPPERS
]
EMA = {"use_ema": True, "ema_momentum": 0.6}
OPTIONS = [
    EMA | {"global_clipnorm": 0.1, "learning_rate": optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)},
    EMA | {"ema_overwrite_frequency": 2, "weight_decay": 0.3, "loss_scale_factor": 8.0},
    {"gradient_accumulation_steps": 2, "clipnorm": 0.1, "learning_rate": lambda: 0.05},
    EMA | {"gradient_accumulation_steps": 2, "ema_overwrite_frequency": 1, "clipvalue": 0.05},
    {},
]


def make_model():
    """The layers' names sort the other way round, so that the order of the weights is not Keras's."""
    first = keras.layers.Dense(2, activation="tanh", kernel_constraint=keras.constraints.UnitNorm(), name="z")
    model = keras.Sequential([keras.Input((3,)), first, keras.layers.Dense(2, name="a")])
    model.set_weights(WEIGHTS)
    return model


def after_a_round(model, **options):
    """The weights in Keras's order."""
    process = hansa.learning.build_federated_averaging_process(
        hansa.learning.from_compiled_keras_model(model, BATCHES[0]), **options
    )
    weights = process.next(process.initialize(), [BATCHES]).state.model.trainable
    return [weights[name] for name in ("z/kernel", "z/bias", "a/kernel", "a/bias")]


def after_fit(model):
    model.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
    return model.get_weights()


def assert_same(found, expected, atol=1e-5):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=atol, rtol=1e-5)


def assert_a_round_is_fit(make_optimizer):
    model = make_model()
    model.compile(make_optimizer(model), "mse", run_eagerly=True)
    found = after_a_round(model)
    assert_same(model.get_weights(), WEIGHTS, atol=0)
    expected = after_fit(model)
    assert max(np.abs(one - other).max() for one, other in zip(expected, WEIGHTS, strict=True)) > 1e-3
    assert_same(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_every_optimizer_with_some_options(kind):
    options = OPTIONS[KINDS.index(kind) % len(OPTIONS)]
    assert_a_round_is_fit(lambda model: kind(**{"learning_rate": 0.1} | options))


@pytest.mark.whole
@pytest.mark.parametrize(("kind", "options"), list(product(KINDS, OPTIONS)))
def test_every_optimizer_with_every_option(kind, options):
    assert_a_round_is_fit(lambda model: kind(**{"learning_rate": 0.1} | options))


class Scaled(optimizers.SGD):
    """It has no get_config, and goes by the number of a variable."""

    def __init__(self, learning_rate=0.01, factor=1.0, **options):
        super().__init__(learning_rate, **options)
        self.factor = factor

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(self.factor * gradient * (1 + self._get_variable_index(variable)), variable, learning_rate)


class Counting(optimizers.SGD):
    """It has a variable of its own, made before `build`."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.count = self.add_variable((), initializer=keras.initializers.Constant(2.0), name="count")

    def update_step(self, gradient, variable, learning_rate):
        self.assign_add(self.count, 1.0)
        super().update_step(gradient, variable, learning_rate / self.count)


class Halving(optimizers.SGD):
    """It ends in its own way."""

    def finalize_variable_values(self, var_list):
        for variable in var_list:
            variable.assign(variable * 0.5)


class Near(optimizers.SGD):
    """It stays near the weights that it starts from."""

    def build(self, variables):
        super().build(variables)
        self.starts = [keras.Variable(self.start(variable)) for variable in variables]

    def start(self, variable):
        return ops.copy(variable)

    def update_step(self, gradient, variable, learning_rate):
        away = variable - self.starts[self._get_variable_index(variable)]
        super().update_step(gradient + 0.5 * away, variable, learning_rate)


class Scaling(optimizers.SGD):
    """It scales the loss in its own way, by a variable that `build` makes."""

    def build(self, variables):
        super().build(variables)
        self.scale = self.add_variable((), initializer=keras.initializers.Constant(4.0), name="scale")

    def scale_loss(self, loss):
        return loss * self.scale

    def apply(self, gradients, variables=None):
        super().apply([gradient / self.scale for gradient in gradients], variables)
        self.scale.assign(2 * self.scale)


class Warmup(optimizers.schedules.LearningRateSchedule):
    """It has no get_config."""

    def __init__(self, peak):
        self.peak = peak

    def __call__(self, step):
        return self.peak * ops.minimum(1.0, (ops.cast(step, "float32") + 1) / 3)


class RemembersASize(optimizers.SGD):
    """What it finds out in the first step is the same in each."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.sizes = {}

    def update_step(self, gradient, variable, learning_rate):
        if variable.path not in self.sizes:
            self.sizes[variable.path] = int(np.prod(variable.shape))
        super().update_step(gradient / self.sizes[variable.path], variable, learning_rate)


def without_decay(**which):
    optimizer = optimizers.SGD(0.1, weight_decay=1.0)
    optimizer.exclude_from_weight_decay(**which)
    return optimizer


def changed():
    optimizer = optimizers.Adam(0.5)
    optimizer.learning_rate = 0.03
    optimizer.beta_1 = 0.5
    return optimizer


def asks_itself():
    optimizer = optimizers.SGD(0.1)
    optimizer.learning_rate = lambda: 0.1 / (1.0 + ops.cast(optimizer.iterations, "float32"))
    return optimizer


def patched():
    optimizer = optimizers.SGD(0.1)
    step = optimizer.update_step
    optimizer.update_step = lambda gradient, variable, rate: step(3 * gradient, variable, rate)
    return optimizer


def by_layer():
    adam = optimizers.Adam(0.1, use_ema=True, ema_momentum=0.5)
    return optimizers.MultiOptimizer(optimizers.OptimizerMap(optimizers.SGD(0.1, momentum=0.9), {".*z/.*": adam}))


def by_function():
    adam, sgd = optimizers.Adam(0.1), optimizers.SGD(0.1)
    return optimizers.MultiOptimizer(lambda variable: adam if "kernel" in variable.path else sgd)


MADE = {
    "an argument of its own": lambda model: Scaled(0.1, factor=5.0),
    "a variable of its own": lambda model: Counting(0.1),
    "an end of its own": lambda model: Halving(0.1),
    "a scale of its own": lambda model: Scaling(0.1),
    "the first weights": lambda model: Near(0.5),
    "a schedule": lambda model: optimizers.Adam(Warmup(0.1)),
    "no decay by name": lambda model: without_decay(var_names=["bias"]),
    "no decay by variable": lambda model: without_decay(var_list=[model.layers[0].kernel]),
    "changed attributes": lambda model: changed(),
    "asks itself": lambda model: asks_itself(),
    "a changed method": lambda model: patched(),
    "by layer": lambda model: by_layer(),
    "by function": lambda model: by_function(),
    "what it remembers": lambda model: RemembersASize(0.5),
}


QUICK = (
    "an argument of its own",
    "a scale of its own",
    "the first weights",
    "a schedule",
    "asks itself",
    "by function",
)


@pytest.mark.parametrize(
    "made", [made if made in QUICK else pytest.param(made, marks=pytest.mark.slow) for made in MADE]
)
def test_what_users_make_of_optimizers(made):
    assert_a_round_is_fit(MADE[made])


@pytest.mark.parametrize(
    "scaled",
    [
        lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.1), initial_scale=2.0**10, dynamic_growth_steps=2),
        lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.1, momentum=0.9), initial_scale=2.0**127),
    ],
)
def test_a_scale_of_the_loss_that_grows_or_that_is_halved_where_gradients_overflow(scaled):
    assert_a_round_is_fit(lambda model: scaled())


def in_float16():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return make_model()
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("given", [None, optax.sgd(1e6), optimizers.SGD(1e6)])
def test_small_gradients_of_float16_are_not_zero(given):
    def small(labels, predictions):
        return 1e-8 * ops.mean(ops.square(labels - ops.cast(predictions, "float32")))

    expected, model = make_model(), in_float16()
    expected.compile(optimizers.SGD(1e6), small)
    model.compile(optimizers.SGD(1e6), small)
    assert_same(after_a_round(model, client_optimizer=given), after_fit(expected), atol=1e-2)


def test_an_optimizer_of_optax_leaves_out_steps_whose_gradients_overflow_as_keras_does():
    model = in_float16()
    model.compile(optimizers.SGD(0.1, momentum=0.9), lambda labels, predictions: 100 * ops.mean(labels - predictions))
    found = after_a_round(model, client_optimizer=optax.sgd(0.1, momentum=0.9))
    expected = after_fit(model)
    assert model.optimizer.dynamic_scale.numpy() < 2**15
    assert_same(found, expected, atol=1e-3)


def test_a_client_starts_with_a_new_optimizer_of_its_own_weights_in_each_round():
    model = make_model()
    model.compile(optimizers.ScheduleFreeAdamW(0.1), "mse")
    process = hansa.learning.build_federated_averaging_process(
        hansa.learning.from_compiled_keras_model(model, BATCHES[0])
    )
    state = process.initialize()
    for _ in range(2):
        state, _ = process.next(state, [BATCHES])
        model.compile(optimizers.ScheduleFreeAdamW(0.1), "mse")
        after_fit(model)
    assert_same([state.model.trainable["a/kernel"]], model.get_weights()[2:3])


@pytest.mark.parametrize("make", [by_function, lambda: optimizers.Adam(0.1, use_ema=True)])
def test_the_users_objects_stay_as_they_are_and_can_be_wrapped_again(make):
    model = make_model()
    optimizer = make()
    model.compile(optimizer, "mse")
    attributes = {name: list(value) if isinstance(value, list) else value for name, value in vars(optimizer).items()}
    first = after_a_round(model)
    assert vars(optimizer) == attributes and not optimizer.built and optimizer.iterations.numpy() == 0
    assert_same(after_a_round(model), first, atol=0)
    after_fit(model)
    assert optimizer.iterations.numpy() == 3
    model.set_weights(WEIGHTS)
    assert_same(after_a_round(model), first, atol=0)  # a new optimizer, also of one that has trained
    assert optimizer.iterations.numpy() == 3


def test_an_optimizer_given_to_the_process_is_used_as_the_compiled_one():
    expected, model = make_model(), make_model()
    expected.compile(without_decay(var_names=["bias"]), "mse")
    model.compile("adam", "mse")
    found = after_a_round(model, client_optimizer=without_decay(var_names=["bias"]))
    assert_same(found, after_fit(expected))


def linear_process(server_optimizer=None, **options):
    """Each round's update of both weights is -1, and they start at 1."""
    model = hansa.learning.functional_model(
        {"d": {"kernel": np.ones(1), "bias": np.ones(1)}},
        lambda w, batch, training, rng: BatchOutput(jnp.sum(w["d"]["kernel"] + w["d"]["bias"])),
        sample_batch={"x": X},
        **{"optimizer": optimizers.SGD(1.0)} | options,
    )
    return hansa.learning.build_federated_averaging_process(model, server_optimizer=server_optimizer)


def seen(process, rounds):
    state, found = process.initialize(), []
    for _ in range(rounds):
        state, _ = process.next(state, [[{"x": X}]])
        found.append([float(state.model.trainable[name][0]) for name in ("d/kernel", "d/bias")])
    return found


def test_weights_of_functional_models_have_names_for_keras_optimizers():
    process = linear_process(optimizer=without_decay(var_names=["bias"]))
    np.testing.assert_allclose(seen(process, 1), [[1 - 0.1 - 0.1, 1 - 0.1]], rtol=1e-6)
    process = linear_process(server_optimizer=without_decay(var_names=["kernel"]))
    np.testing.assert_allclose(seen(process, 1), [[1 - 0.1, 1 - 0.1 - 0.1]], rtol=1e-6)


def test_averages_and_accumulation_at_the_server_go_by_rounds():
    averaging = optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=1)
    np.testing.assert_allclose([kernel for kernel, _ in seen(linear_process(averaging), 3)], [0, -0.5, -1])
    gathering = optimizers.SGD(1.0, gradient_accumulation_steps=2)
    np.testing.assert_allclose([kernel for kernel, _ in seen(linear_process(gathering), 4)], [1, 0, 0, -1])


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (lambda: optimizers.SGD(1.0, use_ema=True), "SGD has use_ema=True without ema_overwrite_frequency"),
        (lambda: optimizers.SGD(1.0, loss_scale_factor=2.0), "SGD scales the loss, and the server has none"),
        (lambda: optimizers.LossScaleOptimizer(optimizers.SGD(1.0)), "LossScaleOptimizer scales the loss"),
        (lambda: Halving(1.0), "Halving has a finalize_variable_values of its own"),
    ],
)
def test_the_server_has_no_loss_and_no_end(optimizer, message):
    with pytest.raises(ValueError, match=f"the server_optimizer {message}"):
        linear_process(server_optimizer=optimizer())


def test_a_schedule_of_steps_does_not_reach_an_average():
    model = hansa.learning.functional_model(
        {"w": np.ones(1)},
        lambda w, *_: BatchOutput(jnp.sum(w["w"])),
        sample_batch={"x": X},
        optimizer=optimizers.SGD(1.0, use_ema=True),
    )
    with pytest.raises(ValueError, match="client_schedule multiplies the clients' steps, and their optimizer puts"):
        hansa.learning.build_federated_averaging_process(model, client_schedule=lambda number: 0.5)


class Appending(optimizers.SGD):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.slots = []

    def build(self, variables):
        super().build(variables)
        for variable in variables:
            self.slots.append(self.add_variable_from_reference(variable, name="slot"))


def test_an_optimizer_that_was_used_and_cannot_be_made_new_is_refused():
    model = make_model()
    model.compile(Appending(0.1), "mse")
    after_a_round(model)
    after_fit(model)
    with pytest.raises(ValueError, match="Appending was used before, and would keep what it made then: give a new one"):
        after_a_round(model)


def test_variables_of_another_model_are_no_exclusions():
    other, model = make_model(), make_model()
    model.compile(without_decay(var_list=other.trainable_variables), "mse")
    with pytest.raises(ValueError, match="SGD excludes variables from weight decay, of which none is a weight of this"):
        after_a_round(model)


def test_negative_learning_rates_are_found_in_wrapped_optimizers():
    wrapped = optimizers.OptimizerMap(optimizers.SGD(0.1), {"a/.*": optimizers.SGD(-0.1)})
    for optimizer in (optimizers.MultiOptimizer(wrapped), optimizers.LossScaleOptimizer(optimizers.SGD(-0.1))):
        model = make_model()
        model.compile(optimizer, "mse")
        with pytest.raises(ValueError, match=r"the optimizer of the Keras model .* has the learning rate -0\.1"):
            after_a_round(model)
