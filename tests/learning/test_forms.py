"""One model in Keras, in plain JAX and in TensorFlow: the same weights, which are those of a loop over true batches."""

from collections import OrderedDict

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import hansa

tf = pytest.importorskip("tensorflow")

SIZES = [1, 31, 32, 33, 100, 257]
RATE, ROUNDS, MOMENTUM, EPSILON = 0.1, 3, 0.9, 1e-3
KERNEL = np.random.default_rng(3).normal(scale=0.5, size=(6, 4)).astype("float32")
SPEC = OrderedDict(x=tf.TensorSpec([None, 6], tf.float32), y=tf.TensorSpec([None, 1], tf.int32))


def batches(rng, size):
    starts = range(0, size, 32)
    return [
        OrderedDict(
            x=rng.normal(size=(min(32, size - i), 6)).astype("float32"),
            y=rng.integers(0, 4, (min(32, size - i), 1)).astype("int32"),
        )
        for i in starts
    ]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return [batches(rng, size) for size in SIZES]


def loss_of(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels[:, 0]).mean()


def in_keras(normalized):
    dense = keras.layers.Dense(4, use_bias=not normalized, kernel_initializer=keras.initializers.Constant(KERNEL))
    norm = [keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON)] if normalized else []
    model = keras.Sequential([keras.Input((6,)), dense, *norm])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(RATE), loss)
    return hansa.learning.from_compiled_keras_model(model, OrderedDict(x=KERNEL.T[:2], y=np.zeros((2, 1), "int32")))


def apply(weights, statistics, x):
    """Logits, and the moving statistics after them."""
    if "scale" not in weights:
        return x @ weights["kernel"] + weights["bias"], {}
    hidden = x @ weights["kernel"]
    mean, variance = hidden.mean(0), hidden.var(0)
    moved = {
        name: MOMENTUM * statistics[name] + (1 - MOMENTUM) * new
        for name, new in (("mean", mean), ("variance", variance))
    }
    scaled = (hidden - mean) * jax.lax.rsqrt(variance + EPSILON) * weights["scale"]
    return scaled + weights["offset"], moved


def start(normalized):
    one, zero = np.ones(4, "float32"), np.zeros(4, "float32")
    if normalized:
        return {"kernel": KERNEL, "scale": one, "offset": zero}, {"mean": zero, "variance": one}
    return {"kernel": KERNEL, "bias": zero}, {}


def in_jax(normalized):
    weights, statistics = start(normalized)

    def forward(pair, batch, training, rng):
        logits, moved = apply(*pair, batch.x)
        return hansa.learning.BatchOutput(loss_of(logits, batch.y), logits), moved

    return hansa.learning.functional_model(
        weights, forward, input_spec=SPEC, optimizer=optax.sgd(RATE), non_trainable=statistics
    )


class InTensorFlow(hansa.learning.TrainableModel):
    def __init__(self, normalized):
        weights, statistics = start(normalized)
        self.weights = {name: tf.Variable(value, name=name) for name, value in weights.items()}
        self.statistics = {name: tf.Variable(v, name=name, trainable=False) for name, v in statistics.items()}
        self.count = tf.Variable(0, name="count", trainable=False)

    trainable_variables = property(lambda self: list(self.weights.values()))
    non_trainable_variables = property(lambda self: list(self.statistics.values()))
    local_variables = property(lambda self: [self.count])
    input_spec = SPEC

    def forward_pass(self, batch, training=True):
        self.count.assign_add(tf.shape(batch["x"])[0])
        logits = batch["x"] @ self.weights["kernel"]
        if self.statistics:
            mean, variance = tf.nn.moments(logits, [0])
            for name, new in (("mean", mean), ("variance", variance)):
                self.statistics[name].assign(MOMENTUM * self.statistics[name] + (1 - MOMENTUM) * new)
            offset, scale = self.weights["offset"], self.weights["scale"]
            logits = tf.nn.batch_normalization(logits, mean, variance, offset, scale, EPSILON)
        else:
            logits += self.weights["bias"]
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["y"][:, 0], logits)
        return hansa.learning.BatchOutput(tf.reduce_mean(losses), logits)

    def train_on_batch(self, batch):
        output = self.forward_pass(batch)
        optimizer = tf.compat.v1.train.GradientDescentOptimizer(RATE)
        optimizer.minimize(output.loss, var_list=self.trainable_variables)
        return output

    def report_local_outputs(self):
        return {"num_examples": self.count}

    federated_output_computation = hansa.federated_computation(
        lambda outputs: {"num_examples": hansa.federated_sum(outputs.num_examples)}
    )


def looped(data, normalized):
    """Federated averaging by a Python loop over the true batches."""

    @jax.jit
    def step(weights, statistics, x, y):
        def loss(weights):
            logits, moved = apply(weights, statistics, x)
            return loss_of(logits, y), moved

        gradients, moved = jax.grad(loss, has_aux=True)(weights)
        return jax.tree.map(lambda w, g: w - RATE * g, weights, gradients), moved

    def mean(*leaves):
        return np.average(np.stack([np.asarray(leaf, "float64") for leaf in leaves]), 0, SIZES).astype("float32")

    state = start(normalized)
    for _ in range(ROUNDS):
        trained = []
        for client in data:
            own = state
            for b in client:
                own = step(*own, jnp.asarray(b["x"]), jnp.asarray(b["y"]))
            trained.append(own)
        state = jax.tree.map(mean, *trained)
    return state


NAMES = {"dense/bias": "bias", "dense/kernel": "kernel", "batch_normalization/beta": "offset"} | {
    "batch_normalization/gamma": "scale",
    "batch_normalization/moving_mean": "mean",
    "batch_normalization/moving_variance": "variance",
}


@pytest.mark.parametrize("normalized", [False, True], ids=["dense", "with batch normalisation"])
@pytest.mark.parametrize("form", ["keras", "jax", "tensorflow"])
def test_every_form_equals_a_loop_over_the_true_batches(data, form, normalized):
    make = {"keras": in_keras, "jax": in_jax, "tensorflow": InTensorFlow}[form]
    process = hansa.learning.build_federated_averaging_process(lambda: make(normalized))
    state = process.initialize()
    for _ in range(ROUNDS):
        state, _ = process.next(state, data)
    weights, statistics = looped(data, normalized)
    for expected, found in ((weights, state.model.trainable), (statistics, state.model.non_trainable)):
        named = {NAMES.get(name, name): value for name, value in found._items()}
        assert named.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(named[name], value, atol=1e-5, err_msg=name)
