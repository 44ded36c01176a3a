"""Models in plain JAX: weights as a pytree, and a forward pass as a function of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from hansa.language.tracing import narrow_computation
from hansa.models._typing import AnyOptimizer
from hansa.models.accumulators import Accumulator, ModelMetrics, Plan, Seen, build, combine, loss_and_count, type_of
from hansa.models.jax import pytrees
from hansa.models.keras.metrics import keras_metric_plan
from hansa.models.metrics import Metric, MetricSums, is_keras_metric, metric_plan, sums_plan
from hansa.models.model import Forward, FunctionalModel, Trained, TrainingStep
from hansa.models.named_optimizers import LearningRate
from hansa.models.optimizers import to_optimizer
from hansa.models.outputs import BatchOutput
from hansa.models.weights import ModelWeights
from hansa.types import Struct, TensorType, Type, to_type
from hansa.types._typing import Arrays
from hansa.types.samples import of_any_size, sample_type

_KEY = TensorType("uint32", (2,))


def functional_model(
    initial_weights: Any,
    forward: Callable[..., Any],
    *,
    sample_batch: Arrays | None = None,
    input_spec: object = None,
    metrics: Mapping[str, Any] | MetricSums | None = None,
    optimizer: AnyOptimizer | None = None,
    learning_rate: LearningRate | None = None,
    non_trainable: Any = None,
    train_on_batch: Callable[..., Any] | None = None,
    initial_optimizer_state: Callable[[Any], Any] | None = None,
    name: str | None = None,
) -> FunctionalModel:
    """Makes a model for `hansa.learning` from pure JAX functions.

    The functions get the weights as the pytree that was given, a batch as a struct (`batch.x`, `batch["x"]`,
    `batch[0]`) of the declared type, and a JAX random key (`jax.random.key`) of its own for each client and batch. With
    `non_trainable`, the weights that they get are the pair `(weights, non_trainable)`.

    Args:
        initial_weights: what is trained: a pytree of arrays of float dtype. Messages, types and the state of an
            algorithm call a leaf by the path to it, joined with '/': `dense/kernel`, `layers/0/bias`.
        forward: `forward(weights, batch, training, rng)` returns a `BatchOutput`, whose loss is a float scalar; with
            `non_trainable`, the pair (`BatchOutput`, `non_trainable` after it). `training` is a Python bool.
        sample_batch: a batch as the clients have them; only its types count, and of these not the leading sizes.
        input_spec: the type of a batch instead: a struct of specs or a type in Hansa's notation, with `None` or `?` for
            the number of examples.
        metrics: a mapping from names to `Metric`s, functions (as `Metric(function)`) or Keras metric objects, to which
            the mean loss and the number of examples are added; or `MetricSums`, to which nothing is added; by default
            the mean loss and the number of examples.
        optimizer: the clients' optimizer: a name, such as "sgd", or an Optax or Keras optimizer, which sees the weights
            as a struct by name; without one, and without `train_on_batch`, the algorithm must be given one.
        learning_rate: that of an optimizer by name: a number, or a schedule by the number of a client's step.
        non_trainable: a pytree of arrays that training changes other than by gradients, such as the statistics of a
            batch normalisation.
        train_on_batch: how the model trains itself on a batch, in place of `optimizer`:
            `train_on_batch(weights, batch, rng)` returns the pair (weights, `BatchOutput`).
        initial_optimizer_state: from the weights that a client starts from, to a pytree of arrays that it keeps from
            batch to batch, but not from round to round; `train_on_batch(weights, state, batch, rng)` then returns
            (weights, state, `BatchOutput`).
        name: what messages call the model; by default the name of `forward`.

    Raises:
        TypeError, ValueError: if an argument is not what is said above, or `forward` is not: it is traced once on a
            batch of any size.

    Examples:
        >>> import optax
        >>> def forward(weights, batch, training, rng):
        ...     scores = batch.x @ weights["kernel"] + weights["bias"]
        ...     losses = optax.softmax_cross_entropy_with_integer_labels(scores, batch.y)
        ...     return hansa.learning.BatchOutput(losses.mean(), scores)
        >>> model = hansa.learning.functional_model(
        ...     {"kernel": np.zeros((64, 10)), "bias": np.zeros(10)},
        ...     forward,
        ...     sample_batch={"x": x, "y": y},
        ...     metrics={"accuracy": lambda labels, scores, sample_weight: scores.argmax(-1) == labels},
        ...     optimizer=optax.sgd(0.1),
        ... )
        >>> process = hansa.learning.build_federated_averaging_process(model)
    """
    name = str(name or getattr(forward, "__name__", "functional_model"))
    if not callable(forward):
        raise TypeError(f"forward is a function (weights, batch, training, rng) -> BatchOutput, found {forward!r}")
    if (sample_batch is None) == (input_spec is None):
        raise TypeError("functional_model needs one of sample_batch and input_spec, to know the type of a batch")
    if optimizer is not None and train_on_batch is not None:
        raise TypeError("functional_model takes an optimizer, or a train_on_batch that does without one, not both")
    if learning_rate is not None and optimizer is None:
        raise TypeError("learning_rate is the rate of an optimizer by name: write optimizer='sgd', for example")
    if initial_optimizer_state is not None and train_on_batch is None:
        raise TypeError("initial_optimizer_state is for a train_on_batch of the model's own, which is missing")
    functions = _Functions(name, initial_weights, forward, non_trainable)
    batch_type = (
        of_any_size(sample_type(sample_batch), f"the model {name!r}") if input_spec is None else to_type(input_spec)
    )
    measured = _metrics(metrics, lambda of: functions.type_of(of, batch_type))
    own = None if train_on_batch is None else functions.training_step(train_on_batch, initial_optimizer_state, measured)
    return FunctionalModel(
        name=name,
        batch_type=batch_type,
        initial_weights=functions.initial,
        initial_local=measured.initial,
        forward=functions.forward(measured),
        local_outputs=measured.local_outputs,
        metrics=measured.aggregate,
        optimizer=None if optimizer is None else to_optimizer(optimizer, "optimizer", None, learning_rate),
        train_on_batch=own,
    )


class _Functions:
    """A user's functions of pytrees, as functions of structs by name."""

    def __init__(self, name: str, initial_weights: Any, forward: Callable[..., Any], non_trainable: Any) -> None:
        self.name = name
        self._user_forward = forward
        self._has_rest = non_trainable is not None
        self._trainable, trainable = pytrees.named(initial_weights, "initial_weights")
        self._rest, rest = pytrees.named(() if non_trainable is None else non_trainable, "non_trainable")
        for field, leaf in trainable._items():
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise TypeError(
                    f"the weight {field!r} has the dtype {leaf.dtype.name}, and gradients are of floats; give it in "
                    "non_trainable, or convert it with .astype('float32')"
                )
        self.initial = ModelWeights.create(trainable, rest)

    def call(self, weights: ModelWeights, batch: Any, training: bool, key: Any) -> tuple[BatchOutput, Struct]:
        """The output of the user's forward pass, and the non-trainable weights after it."""
        returned = self._user_forward(self._to_trees(weights), batch, training, key)
        what = f"the forward of {self.name!r} returned"
        if not self._has_rest:
            return _output(returned, what), weights.non_trainable
        if isinstance(returned, BatchOutput) or not isinstance(returned, tuple | list) or len(returned) != 2:
            raise TypeError(
                f"{what} {_described(returned)}; with non_trainable weights it returns a pair, "
                "(hansa.learning.BatchOutput(loss, predictions), non_trainable)"
            )
        return _output(returned[0], f"{what} in a pair"), self._rest.to_struct(returned[1], weights.non_trainable, what)

    def forward(self, metrics: ModelMetrics) -> Callable[[ModelWeights, Struct, Any, bool, Any], Forward]:
        def forward(weights: ModelWeights, local: Struct, batch: Any, training: bool, key: Any) -> Forward:
            output, rest = self.call(weights, batch, training, key)
            return Forward(output, rest, metrics.update(local, Seen.of(batch, output)))

        return forward

    def training_step(
        self, train: Callable[..., Any], initial_state: Callable[[Any], Any] | None, metrics: ModelMetrics
    ) -> TrainingStep:
        """The user's own step."""
        what = f"the train_on_batch of {self.name!r} returned"

        def state_of(weights: ModelWeights) -> Any:
            return () if initial_state is None else initial_state(self._to_trees(weights))

        def initial(weights: ModelWeights) -> Struct:
            return pytrees.leaves(state_of(weights))

        def apply(weights: ModelWeights, local: Struct, slots: Struct, batch: Any, key: Any) -> Trained:
            tree = jax.tree.structure(jax.eval_shape(state_of, weights))
            state = () if initial_state is None else (jax.tree.unflatten(tree, list(slots)),)
            returned = train(self._to_trees(weights), *state, batch, key)
            parts = "weights, optimizer state, BatchOutput" if state else "weights, BatchOutput"
            if isinstance(returned, BatchOutput) or not isinstance(returned, tuple) or len(returned) != 2 + len(state):
                raise TypeError(f"{what} {_described(returned)}; it must return ({parts})")
            after = self._to_weights(returned[0], weights, what)
            kept = pytrees.same_leaves(returned[1], tree, slots, f"{what} an optimizer state") if state else slots
            output = _output(returned[-1], f"{what} last")
            return Trained(output, after, metrics.update(local, Seen.of(batch, output)), kept)

        return TrainingStep(initial, apply)

    def type_of(self, of: Callable[[Seen], Any], batch_type: Type) -> Type:
        """The type of a function of a training batch and the forward pass's output."""

        @narrow_computation(type_of(self.initial), batch_type, _KEY)
        def traced(weights: Any, batch: Any, key: Any) -> Any:
            output, _ = self.call(weights, batch, True, jax.random.wrap_key_data(key))
            return of(Seen.of(batch, output))

        return traced.type_signature.result  # type: ignore[no-any-return]

    def _to_trees(self, weights: ModelWeights) -> Any:
        trainable = self._trainable.to_tree(weights.trainable)
        return (trainable, self._rest.to_tree(weights.non_trainable)) if self._has_rest else trainable

    def _to_weights(self, trees: Any, before: ModelWeights, what: str) -> ModelWeights:
        if not self._has_rest:
            return ModelWeights.create(self._trainable.to_struct(trees, before.trainable, what), before.non_trainable)
        if not isinstance(trees, tuple | list) or len(trees) != 2:
            raise TypeError(f"{what} {_described(trees)} as the weights; they are the pair (weights, non_trainable)")
        trainable = self._trainable.to_struct(trees[0], before.trainable, what)
        return ModelWeights.create(trainable, self._rest.to_struct(trees[1], before.non_trainable, what))


def _metrics(metrics: Any, of: Callable[[Callable[[Seen], Any]], Type]) -> ModelMetrics:
    if isinstance(metrics, MetricSums):
        (sums,) = build([("sums", sums_plan(metrics))], of)
        return combine([sums], spread=["sums"])
    if metrics is None:
        metrics = {}
    if not isinstance(metrics, Mapping):
        raise TypeError(
            "the metrics of a functional model are a mapping such as {'accuracy': hansa.learning.Metric(function)}, or "
            f"hansa.learning.MetricSums; found {metrics!r}"
        )
    of(lambda seen: seen.output.loss)  # also where there are no metrics, errors are those of functional_model
    plans = [(name, _plan(name, metric)) for name, metric in metrics.items()]
    base: tuple[str, Accumulator] = ("the loss", loss_and_count(keep_count=True))
    return combine([*build(plans, of), base], spread=["the loss"])


def _plan(name: str, metric: Any) -> Plan:
    metric = metric if isinstance(metric, Metric) else Metric(metric)
    return keras_metric_plan(name, metric) if is_keras_metric(metric.function) else metric_plan(name, metric)


def _output(value: Any, what: str) -> BatchOutput:
    if not isinstance(value, BatchOutput):
        raise TypeError(f"{what} {_described(value)}; it must be hansa.learning.BatchOutput(loss, predictions)")
    loss = value.loss
    if not isinstance(loss, float):
        shape, dtype = getattr(loss, "shape", None), getattr(loss, "dtype", None)
        if shape is None or dtype is None:
            raise TypeError(f"{what} a BatchOutput with {_described(loss)} as the loss; it must be a float scalar")
        if shape != ():
            raise ValueError(
                f"{what} a loss that is no scalar, but has {len(shape)} axes; take the mean over the examples, as with "
                "jnp.mean(loss)"
            )
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"{what} a loss of the dtype {dtype}; it must be a float scalar")
    count = value.num_examples
    if getattr(count, "shape", ()) != ():
        raise ValueError(f"{what} a num_examples of the shape {list(count.shape)}; it must be a scalar")
    return value._replace(loss=jnp.asarray(loss))


def _described(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, tuple | list) and not hasattr(value, "_fields"):
        return f"a {type(value).__name__} of {len(value)}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of the type {value.dtype}[{','.join(map(str, value.shape))}]"
    return f"a {type(value).__name__}"
