"""Models with TensorFlow variables: the tutorial's second half, and beside plain loops over the true batches."""

from collections import OrderedDict

import numpy as np
import optax
import pytest

import hansa

tf = pytest.importorskip("tensorflow")

from tests.learning.tensorflow_mnist import MnistModel, MnistTrainableModel  # noqa: E402

build = hansa.learning.build_federated_averaging_process


@pytest.fixture(scope="module")
def digits(mnist):
    x, y = (mnist.train_images.reshape(-1, 784) / 255.0).astype("float32"), mnist.train_labels.reshape(-1, 1)
    own = [np.flatnonzero(mnist.train_labels == digit)[:1000] for digit in range(10)]
    return [[OrderedDict(x=x[rows[i : i + 100]], y=y[rows[i : i + 100]]) for i in range(0, 1000, 100)] for rows in own]


@pytest.mark.parametrize(
    "model, arguments",
    [(MnistTrainableModel, {}), (MnistModel, {"client_optimizer": optax.sgd(0.1)})],
    ids=["trains itself", "trained by the process"],
)
def test_the_figures_of_the_tutorial(digits, model, arguments):
    process = build(model, **arguments)
    assert process.initialize.type_signature.compact() == (
        "( -> <model=<trainable=<bias=float32[10],weights=float32[784,10]>,non_trainable=<>>,"
        "optimizer_state=<int64>>@SERVER)"
    )
    state, metrics = process.next(process.initialize(), digits)
    assert str(metrics) == "<accuracy=0.91,loss=0.293638,num_examples=10000.0>"
    found = []
    for _ in range(5):
        state, metrics = process.next(state, digits)
        found.append((f"{metrics.accuracy:.6g}", f"{metrics.loss:.6g}"))
    accuracies = ["0.976", "0.9786", "0.9796", "0.98", "0.9799"]
    losses = ["0.277596", "0.263369", "0.25075", "0.239585", "0.229727"]
    assert found == list(zip(accuracies, losses, strict=True))


def batch(rng, size, features=784, classes=10):
    x = rng.normal(size=(size, features)).astype("float32")
    return OrderedDict(x=x, y=rng.integers(0, classes, (size, 1)).astype("int32"))


def cohort(sizes, batch_size, seed=0, **shape):
    rng = np.random.default_rng(seed)
    return [
        [batch(rng, min(batch_size, size - start), **shape) for start in range(0, size, batch_size)] for size in sizes
    ]


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def averaged(data, rounds, make_rule):
    """Federated averaging of the logistic regression in NumPy; a rule is a function (weights, gradients)."""
    weights = [np.zeros((784, 10)), np.zeros(10)]
    for _ in range(rounds):
        totals, count = [np.zeros_like(w) for w in weights], 0
        for client in data:
            own, rule = [w.copy() for w in weights], make_rule()
            for b in client:
                error = (softmax(b["x"] @ own[0] + own[1]) - np.eye(10)[b["y"][:, 0]]) / len(b["y"])
                rule(own, [b["x"].T @ error, error.sum(0)])
            size = sum(len(b["y"]) for b in client)
            totals, count = [total + size * w for total, w in zip(totals, own, strict=True)], count + size
        weights = [total / count for total in totals]
    return weights


def momentum_rule(rate, momentum):
    def make():
        velocity = [0.0, 0.0]

        def rule(weights, gradients):
            for i, gradient in enumerate(gradients):
                velocity[i] = momentum * velocity[i] + gradient
                weights[i] -= rate * velocity[i]

        return rule

    return make


def adam_rule(rate):
    def make():
        first, second, step = [0.0, 0.0], [0.0, 0.0], [0]

        def rule(weights, gradients):
            step[0] += 1
            for i, g in enumerate(gradients):
                first[i], second[i] = 0.9 * first[i] + 0.1 * g, 0.999 * second[i] + 0.001 * g**2
                scale = rate * np.sqrt(1 - 0.999 ** step[0]) / (1 - 0.9 ** step[0])
                weights[i] -= scale * first[i] / (np.sqrt(second[i]) + 0.01)

        return rule

    return make


class Tape(MnistTrainableModel):
    def train_on_batch(self, batch):
        with tf.GradientTape() as tape:
            output = self.forward_pass(batch)
        gradients = tape.gradient(output.loss, self.trainable_variables)
        for variable, gradient in zip(self.trainable_variables, gradients, strict=True):
            variable.assign_sub(0.1 * gradient)
        return output


class Momentum(MnistTrainableModel):
    @tf.function
    def train_on_batch(self, batch):
        output = self.forward_pass(batch)
        optimizer = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
        optimizer.minimize(output.loss, var_list=self.trainable_variables)
        return output


class OwnOptimizer(MnistTrainableModel):
    def __init__(self):
        super().__init__()
        self._optimizer = tf.compat.v1.train.AdamOptimizer(0.01, epsilon=0.01)

    def train_on_batch(self, batch):
        output = self.forward_pass(batch)
        self._optimizer.minimize(output.loss, var_list=self.trainable_variables)
        return output


@pytest.mark.parametrize(
    "model, rule",
    [(Tape, momentum_rule(0.1, 0.0)), (Momentum, momentum_rule(0.1, 0.9)), (OwnOptimizer, adam_rule(0.01))],
    ids=["tape", "momentum made in the step", "adam made in the constructor"],
)
def test_training_steps_are_those_of_numpy(model, rule):
    data = cohort([10, 3, 7], 4)
    process = build(model)
    state = process.initialize()
    for _ in range(2):
        state, _ = process.next(state, data)
    weights, bias = averaged(data, 2, rule)
    np.testing.assert_allclose(state.model.trainable.weights, weights, atol=2e-6)
    np.testing.assert_allclose(state.model.trainable.bias, bias, atol=2e-6)


class Normalized(hansa.learning.Model):
    """A dense layer, batch normalisation with moving statistics, and outputs of several dtypes."""

    def __init__(self):
        rng = np.random.default_rng(3)
        self._kernel = tf.Variable(rng.normal(size=(6, 4)).astype("float32"), name="kernel")
        self._scale = tf.Variable(tf.ones(4), name="scale")
        self._mean = tf.Variable(tf.zeros(4), name="mean", trainable=False)
        self._variance = tf.Variable(tf.ones(4), name="variance", trainable=False)
        self._count = tf.Variable(tf.zeros([], tf.int64), name="count", trainable=False)
        self._largest = tf.Variable(tf.zeros([4], tf.float64), name="largest", trainable=False)
        self._batches = tf.Variable(5, name="batches", trainable=False)

    trainable_variables = property(lambda self: [self._kernel, self._scale])
    non_trainable_variables = property(lambda self: [self._mean, self._variance])
    local_variables = property(lambda self: [self._count, self._largest, self._batches])
    input_spec = property(
        lambda self: OrderedDict(x=tf.TensorSpec([None, 6], tf.float32), y=tf.TensorSpec([None, 1], tf.int32))
    )

    def forward_pass(self, batch, training=True):
        hidden = batch.x @ self._kernel
        if training:
            mean, variance = tf.nn.moments(hidden, [0])
            self._mean.assign(0.9 * self._mean + 0.1 * mean)
            self._variance.assign(0.9 * self._variance + 0.1 * variance)
        else:
            mean, variance = self._mean, self._variance
        logits = (hidden - mean) * tf.math.rsqrt(variance + 1e-3) * self._scale
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(batch["y"][:, 0], logits))
        self._count.assign_add(tf.size(batch.y, tf.int64))
        self._largest.assign(tf.maximum(self._largest, tf.cast(tf.reduce_max(tf.abs(hidden), 0), tf.float64)))
        self._batches.assign_add(1)
        return hansa.learning.BatchOutput(loss, logits)

    def report_local_outputs(self):
        return {"count": self._count, "largest": self._largest, "batches": [self._batches, self._batches * 2]}

    @property
    def federated_output_computation(self):
        @hansa.federated_computation
        def aggregate(outputs):
            return {
                "num_examples": hansa.federated_sum(outputs.count),
                "largest": hansa.federated_max(outputs.largest),
                "batches": hansa.federated_sum(outputs.batches),
            }

        return aggregate


def looped(make, data, rate):
    """One round of averaging by plain TensorFlow, batch by batch: the weights, and the statistics."""
    size = sum(len(b["y"]) for client in data for b in client)
    total, largest = None, 0.0
    for client in data:
        model = make()
        for b in client:
            b = hansa.Struct([(name, tf.constant(value)) for name, value in b.items()])
            with tf.GradientTape() as tape:
                output = model.forward_pass(b)
            gradients = tape.gradient(output.loss, model.trainable_variables)
            for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
                variable.assign_sub(rate * gradient)
        variables = [*model.trainable_variables, *model.non_trainable_variables]
        share = [sum(len(b["y"]) for b in client) / size * v.numpy().astype("float64") for v in variables]
        total = share if total is None else [a + b for a, b in zip(total, share, strict=True)]
        largest = np.maximum(largest, model.local_variables[1].numpy())
    return total, largest


SIZES = [1, 31, 32, 33, 64, 100, 257]


def test_ragged_clients_equal_a_loop_over_the_true_batches():
    data = cohort(SIZES, 32, features=6, classes=4)
    process = build(Normalized, client_optimizer=optax.sgd(0.1))
    state, metrics = process.next(process.initialize(), data)
    (kernel, scale, mean, variance), largest = looped(Normalized, data, 0.1)
    np.testing.assert_allclose(state.model.trainable.kernel, kernel, atol=1e-5)
    np.testing.assert_allclose(state.model.trainable.scale, scale, atol=1e-5)
    np.testing.assert_allclose(state.model.non_trainable.mean, mean, atol=1e-5)
    np.testing.assert_allclose(state.model.non_trainable.variance, variance, atol=1e-5)
    assert metrics.num_examples == sum(SIZES)
    assert metrics.num_examples.dtype == np.int64
    assert metrics.largest.dtype == np.float64
    np.testing.assert_allclose(metrics.largest, largest, rtol=1e-5)
    batches = sum(len(client) for client in data)
    assert list(metrics.batches) == [batches + 5 * len(SIZES), 2 * (batches + 5 * len(SIZES))]


class Double(Normalized):
    """A linear regression in float64."""

    def __init__(self):
        super().__init__()
        self._kernel = tf.Variable(np.linspace(-1, 1, 6)[:, None], name="kernel")
        self._scale = tf.Variable(tf.zeros(1, tf.float64), name="scale")

    def forward_pass(self, batch, training=True):
        predictions = tf.cast(batch.x, tf.float64) @ self._kernel + self._scale
        self._count.assign_add(tf.size(batch.y, tf.int64))
        return hansa.learning.BatchOutput(
            tf.reduce_mean((predictions - tf.cast(batch.y, tf.float64)) ** 2), predictions
        )


def adam(weights, gradient, moments, step, rate, eps=1e-8):
    """One step as in Kingma and Ba (arXiv:1412.6980), Algorithm 1."""
    first = 0.9 * moments[0] + 0.1 * gradient
    second = 0.999 * moments[1] + 0.001 * gradient**2
    change = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + eps)
    return weights - rate * change, (first, second)


def test_float64_weights_are_trained_in_float64_by_optimizers_at_clients_and_server():
    data = cohort([40, 7], 32, features=6, classes=4)
    process = build(Double, client_optimizer=optax.adam(0.1), server_optimizer=optax.adam(0.05))
    state = process.initialize()
    assert "kernel=float64[6,1]" in process.initialize.type_signature.compact()
    weights = np.r_[np.linspace(-1, 1, 6), 0.0]
    at_server = (0.0, 0.0)
    for number in (1, 2):
        state, _ = process.next(state, data)
        updates = []
        for client in data:
            trained, moments = weights, (0.0, 0.0)
            for step, batch in enumerate(client, 1):
                x = np.c_[np.float64(batch["x"]), np.ones(len(batch["x"]))]
                gradient = 2 * x.T @ (x @ trained - batch["y"][:, 0]) / len(x)
                trained, moments = adam(trained, gradient, moments, step, 0.1)
            updates.append(trained - weights)
        gradient = -np.average(updates, axis=0, weights=[40, 7])
        weights, at_server = adam(weights, gradient, at_server, number, 0.05)
    np.testing.assert_allclose(np.ravel(state.model.trainable.kernel), weights[:6], rtol=2e-6)
    np.testing.assert_allclose(state.model.trainable.scale, weights[6:], rtol=2e-6)


def test_statistics_may_stay_as_the_server_has_them():
    process = build(Normalized, client_optimizer=optax.sgd(0.1), non_trainable="server")
    state, _ = process.next(process.initialize(), cohort([40], 32, features=6, classes=4))
    np.testing.assert_array_equal(state.model.non_trainable.mean, np.zeros(4))
    assert np.abs(np.asarray(state.model.trainable.scale) - 1).max() > 1e-3


def test_fifty_rounds_of_changing_cohorts_compile_a_handful_of_times():
    runtime = hansa.InProcessRuntime()
    hansa.set_runtime(runtime)
    try:
        process = build(Normalized, client_optimizer=optax.sgd(0.1))
        state, rng = process.initialize(), np.random.default_rng(0)
        before = runtime.compilations
        for i in range(50):
            sizes = rng.integers(1, 258, rng.integers(1, 8))
            state, metrics = process.next(state, cohort(sizes, 32, seed=i, features=6, classes=4))
            assert metrics.num_examples == sizes.sum()
        assert runtime.compilations - before <= 5
    finally:
        hansa.set_runtime(None)


def test_tensorflow_does_not_run_in_a_round(monkeypatch):
    process = build(Momentum)
    data = cohort([5, 9], 4)
    state, _ = process.next(process.initialize(), data)

    def refuse(*args, **kwargs):
        raise AssertionError("TensorFlow ran")

    from tensorflow.python import pywrap_tfe
    from tensorflow.python.eager import context

    one, function = tf.constant(1), tf.function(lambda x: x + 1)
    function(one)
    monkeypatch.setattr(pywrap_tfe, "TFE_Py_FastPathExecute", refuse)
    monkeypatch.setattr(context.Context, "call_function", refuse)
    for run in (lambda: tf.add(one, one), lambda: function(one)):
        with pytest.raises(AssertionError, match="TensorFlow ran"):
            run()
    _, metrics = process.next(state, cohort([3, 8, 6], 4))
    assert metrics.num_examples == 17


class Noisy(MnistTrainableModel):
    """Adds what it draws for a batch to its bias."""

    def __init__(self):
        super().__init__()
        self._generator = tf.random.Generator.from_seed(1)

    def train_on_batch(self, batch):
        output = self.forward_pass(batch)
        drawn = [tf.random.uniform([10]), self._generator.uniform([10]), tf.nn.dropout(tf.ones(10), 0.5)]
        self.trainable_variables[1].assign_add(tf.add_n(drawn))
        return output


def test_random_numbers_are_each_clients_and_each_batches_own():
    process = build(Noisy)
    first = cohort([2], 2)
    biases = []
    for data in (first, [*first, *first], [[*first[0], *first[0]]]):
        state, _ = process.next(process.initialize(), data)
        biases.append(np.asarray(state.model.trainable.bias))
    alone, both, twice = biases
    assert np.abs(both - alone).max() > 1e-3  # the second client draws other numbers than the first
    assert np.abs(twice - 2 * alone).max() > 1e-3  # and the second batch other ones than the first
    again, _ = process.next(process.initialize(), first)
    np.testing.assert_array_equal(np.asarray(again.model.trainable.bias), alone)
    assert (alone > 0).all() and (alone < 4).all()


def derived(**members):
    return type("Wrong", (MnistTrainableModel,), members)


def passes(function):
    return {"forward_pass": lambda self, batch, training=True: function(self, batch)}


def output(loss):
    return hansa.learning.BatchOutput(loss)


elsewhere = tf.Variable(1.0, name="elsewhere")
table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(tf.constant([1]), tf.constant([3])), 0)


def aggregation(function):
    return {"federated_output_computation": hansa.federated_computation(function)}


WRONG = {
    "no output": (passes(lambda m, b: None), TypeError, r"Wrong\.\w+ must return hansa.learning.BatchOutput"),
    "a pair": (passes(lambda m, b: (tf.constant(1.0), None)), TypeError, "BatchOutput.*found tuple"),
    "a loss for each example": (
        passes(lambda m, b: output(tf.reduce_sum(b["x"], 1))),
        TypeError,
        r"the loss of Wrong\.\w+ must be a scalar float.*found float32\[\d+\]",
    ),
    "a whole number": (passes(lambda m, b: output(tf.size(b["x"]))), TypeError, "must be a scalar float.*int32"),
    "a variable made late": (
        passes(lambda m, b: output(tf.Variable(1.0, name="late") + 0.0)),
        TypeError,
        r"makes the variable 'late' at .*test_tensorflow_models\.py:\d+: a model makes its variables in its const",
    ),
    "somebody else's variable": (
        passes(lambda m, b: output(elsewhere.assign_add(1.0))),
        TypeError,
        "assigns the variable 'elsewhere', which is in none of trainable_variables",
    ),
    "python inside": (
        passes(lambda m, b: output(tf.reduce_mean(tf.py_function(lambda x: x, [b["x"]], tf.float32)))),
        TypeError,
        r"test_tensorflow_models\.py:\d+ uses the operation EagerPyFunc",
    ),
    "strings": (
        passes(
            lambda m, b: output(tf.reduce_mean(tf.cast(tf.strings.length(tf.strings.as_string(b["x"])), tf.float32)))
        ),
        TypeError,
        r"test_tensorflow_models\.py:\d+ uses the operation \w+.*which handles strings",
    ),
    "a lookup": (
        passes(lambda m, b: output(tf.reduce_mean(tf.cast(table.lookup(b["y"]), tf.float32)))),
        TypeError,
        r"test_tensorflow_models\.py:\d+ uses the operation LookupTableFindV2",
    ),
    "a number as input_spec": (
        {"input_spec": 3},
        TypeError,
        r"Wrong\.input_spec must be a structure of tf\.TensorSpecs",
    ),
    "strings as input": (
        {"input_spec": OrderedDict(x=tf.TensorSpec([None], tf.string))},
        TypeError,
        "strings cannot be compiled",
    ),
    "no variables": ({"trainable_variables": [3]}, TypeError, r"Wrong\.trainable_variables holds 3"),
    "an output of the weights": (
        {"report_local_outputs": lambda self: {"w": tf.reduce_sum(self.trainable_variables[0])}},
        TypeError,
        "reads the variable 'weights', which is not one of local_variables",
    ),
    "an unknown output": (
        aggregation(lambda m: {"a": hansa.federated_sum(m.nothing)}),
        AttributeError,
        "no field 'nothing'",
    ),
    "an output that nobody aggregates": (
        aggregation(lambda m: {"n": hansa.federated_sum(m.num_examples), "loss": hansa.federated_mean(m.loss)}),
        TypeError,
        "does nothing with 'accuracy', which each client reports",
    ),
    "a metric left at the clients": (
        aggregation(lambda m: {"all": m}),
        TypeError,
        "must return what is at the server, found .*@CLIENTS",
    ),
    "no aggregation": ({"federated_output_computation": None}, TypeError, "must be a computation, found None"),
    "another shape": (
        {"train_on_batch": lambda self, batch: self.trainable_variables[1].assign(tf.zeros(11))},
        ValueError,
        "shape",
    ),
}


@pytest.mark.parametrize("members, kind, message", WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_model_is_said_when_the_process_is_built(members, kind, message):
    trained_by_the_process = {"client_optimizer": optax.sgd(0.1)} if "forward_pass" in members else {}
    with pytest.raises(kind, match=message):
        build(derived(**members), **trained_by_the_process)


def test_an_instance_is_refused():
    with pytest.raises(TypeError, match=r"an instance of MnistModel.*pass the class, MnistModel"):
        build(MnistModel())


def test_a_model_that_does_not_train_itself_needs_an_optimizer():
    with pytest.raises(ValueError, match="'MnistModel' has no optimizer: pass one by name, client_optimizer="):
        build(MnistModel)


@pytest.mark.parametrize("dtype, width", [("float64", 784), ("float32", 783)])
def test_data_of_another_type_is_refused(dtype, width):
    process = build(MnistTrainableModel)
    wrong = [[OrderedDict(x=np.zeros((3, width), dtype), y=np.zeros((3, 1), "int32"))]]
    with pytest.raises(TypeError, match=r"expected float32\[\?,784\], found "):
        process.next(process.initialize(), wrong)


class WithARatio(hansa.learning.Model):
    """A weight, its loss, and a metric that is 0/0 for clients whose labels are all zero."""

    def __init__(self):
        self._weight = tf.Variable(1.0, name="weight")
        self._sums = {name: tf.Variable(0.0, trainable=False, name=name) for name in ("loss", "ratio", "count")}

    @property
    def trainable_variables(self):
        return [self._weight]

    @property
    def non_trainable_variables(self):
        return []

    @property
    def local_variables(self):
        return list(self._sums.values())

    @property
    def input_spec(self):
        return OrderedDict(x=tf.TensorSpec([None]), y=tf.TensorSpec([None]))

    @tf.function
    def forward_pass(self, batch, training=True):
        loss = tf.reduce_mean((self._weight * batch["x"] - batch["y"]) ** 2)
        count = tf.cast(tf.size(batch["x"]), tf.float32)
        self._sums["loss"].assign_add(loss * count)
        self._sums["ratio"].assign_add(count * tf.reduce_sum(batch["x"] * batch["y"]) / tf.reduce_sum(batch["y"]))
        self._sums["count"].assign_add(count)
        return hansa.learning.BatchOutput(loss, None)

    def report_local_outputs(self):
        count = self._sums["count"]
        return OrderedDict(loss=self._sums["loss"] / count, ratio=self._sums["ratio"] / count, count=count)

    @property
    def federated_output_computation(self):
        @hansa.federated_computation
        def aggregate(reports):
            return {
                "loss": hansa.federated_mean(reports.loss, reports.count),
                "ratio": hansa.federated_mean(reports.ratio, reports.count),
                "count": hansa.federated_sum(reports.count),
            }

        return aggregate


def test_a_metric_that_is_not_finite_leaves_out_its_client_alone():
    clients = [
        [OrderedDict(x=np.array(x, "float32"), y=np.array(y, "float32"))]
        for x, y in (([1, 2], [1, 3]), ([3, 1, 1], [0, 0, 0]), ([2], [1]))
    ]
    process = build(WithARatio, client_optimizer=optax.sgd(0.1))
    state, found = process.next(process.initialize(), clients)
    x, y = (np.concatenate([client[0][name] for client in clients]) for name in ("x", "y"))
    assert found.loss == pytest.approx(((x - y) ** 2).mean())
    assert found.ratio == pytest.approx((2 * (1 + 6) / 4 + 1 * 2) / 3)
    assert (found["count"], found.num_non_finite_metrics, found.num_non_finite_clients) == (6, 1, 0)
    steps = [2 * (c[0]["x"] * (c[0]["x"] - c[0]["y"])).mean() for c in clients]
    assert state.model.trainable.weight == pytest.approx(1 - 0.1 * np.average(steps, weights=[2, 3, 1]), rel=1e-5)
