"""Models with TensorFlow variables: a class with a forward pass, and perhaps its own training step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import numpy as np

from hansa.language import intrinsics
from hansa.language.local import is_wide, tensors, to_struct
from hansa.language.tensorflow import Fields, converted, import_tensorflow
from hansa.language.tracing import federated_computation
from hansa.models.accumulators import own_aggregation, type_of
from hansa.models.model import Forward, FunctionalModel, ScaleLoss, Trained, TrainingStep
from hansa.models.outputs import BatchOutput
from hansa.models.tensorflow.variables import (
    FACTOR,
    Group,
    VariableFunction,
    factor_of,
    named,
    scalar_loss,
    with_gradients,
)
from hansa.models.weights import ModelWeights
from hansa.types import FederatedType, Struct, StructType, Type, infer_type, to_type


class Model(ABC):
    """A model with TensorFlow variables, to be subclassed.

    The constructor takes no arguments and makes the variables, as `tf.Variable`s; the methods read and assign them, and
    may be `tf.function`s. `build_federated_averaging_process` is given the class, or a function that makes an instance:
    the constructor is called once, the methods are compiled with XLA, and no TensorFlow runs when a round does.

    Examples:
        >>> import tensorflow as tf
        >>> class Line(hansa.learning.Model):
        ...     def __init__(self):
        ...         self.slope = tf.Variable(0.0, name="slope")
        ...         self.error = tf.Variable(0.0, name="error", trainable=False)
        ...
        ...     @property
        ...     def trainable_variables(self):
        ...         return [self.slope]
        ...
        ...     @property
        ...     def non_trainable_variables(self):
        ...         return []
        ...
        ...     @property
        ...     def local_variables(self):
        ...         return [self.error]
        ...
        ...     @property
        ...     def input_spec(self):
        ...         return {"x": tf.TensorSpec([None]), "y": tf.TensorSpec([None])}
        ...
        ...     def forward_pass(self, batch, training=True):
        ...         predictions = self.slope * batch["x"]
        ...         squares = (predictions - batch["y"]) ** 2
        ...         self.error.assign_add(tf.reduce_sum(squares))
        ...         return hansa.learning.BatchOutput(tf.reduce_mean(squares), predictions)
        ...
        ...     def report_local_outputs(self):
        ...         return {"error": self.error}
        ...
        ...     @property
        ...     def federated_output_computation(self):
        ...         @hansa.federated_computation("{<error=float32>}@CLIENTS")
        ...         def total(outputs):
        ...             return {"error": hansa.federated_sum(outputs.error)}
        ...
        ...         return total
        >>> evaluation = hansa.learning.build_federated_evaluation(Line)
        >>> batch = {"x": np.float32([1, 2]), "y": np.float32([3, 4])}
        >>> print(evaluation({"trainable": {"slope": np.float32(1)}, "non_trainable": {}}, [[batch]]))
        <error=8.0>
    """

    @property
    @abstractmethod
    def trainable_variables(self) -> Sequence[Any]:
        """The variables that training changes: the model proper."""

    @property
    @abstractmethod
    def non_trainable_variables(self) -> Sequence[Any]:
        """The variables that belong to the model and that a forward pass may assign, such as running means."""

    @property
    @abstractmethod
    def local_variables(self) -> Sequence[Any]:
        """The variables that stay on a client, such as sums for metrics; each client starts from the initial values."""

    @property
    @abstractmethod
    def input_spec(self) -> Any:
        """What a batch looks like: a mapping, tuple or list of `tf.TensorSpec`s; the number of examples is None."""

    @abstractmethod
    def forward_pass(self, batch: Any, training: bool = True) -> BatchOutput:
        """The loss and the predictions of a batch, which has the structure of `input_spec`.

        Local variables, and non-trainable ones, may be assigned.
        """

    @abstractmethod
    def report_local_outputs(self) -> Any:
        """What a client reports after its last batch: a structure of tensors, made of local variables."""

    @property
    @abstractmethod
    def federated_output_computation(self) -> Any:
        """A federated computation from the clients' local outputs to the metrics, a struct or dict at the server."""


class TrainableModel(Model):
    """A `Model` that trains itself on a batch.

    Optimizers made in the constructor or in the method keep their own variables from batch to batch; each client starts
    from new ones.

    Examples:
        >>> import tensorflow as tf
        >>> class Line(hansa.learning.TrainableModel):
        ...     trainable_variables = property(lambda self: [self.slope])
        ...     non_trainable_variables = property(lambda self: [])
        ...     local_variables = property(lambda self: [self.batches])
        ...     input_spec = property(lambda self: {"x": tf.TensorSpec([None]), "y": tf.TensorSpec([None])})
        ...
        ...     def __init__(self):
        ...         self.slope = tf.Variable(0.0, name="slope")
        ...         self.batches = tf.Variable(0, name="batches", trainable=False)
        ...
        ...     def forward_pass(self, batch, training=True):
        ...         predictions = self.slope * batch["x"]
        ...         return hansa.learning.BatchOutput(tf.reduce_mean((predictions - batch["y"]) ** 2), predictions)
        ...
        ...     def train_on_batch(self, batch):
        ...         with tf.GradientTape() as tape:
        ...             output = self.forward_pass(batch)
        ...         self.slope.assign_sub(0.1 * tape.gradient(output.loss, self.slope))
        ...         self.batches.assign_add(1)
        ...         return output
        ...
        ...     def report_local_outputs(self):
        ...         return {"batches": self.batches}
        ...
        ...     @property
        ...     def federated_output_computation(self):
        ...         return hansa.federated_computation(hansa.federated_sum, "{<batches=int32>}@CLIENTS")
        >>> process = hansa.learning.build_federated_averaging_process(Line)
        >>> batch = {"x": np.float32([1, 2]), "y": np.float32([3, 4])}
        >>> state, metrics = process.next(process.initialize(), [[batch], [batch, batch]])
        >>> metrics.batches
        np.int32(3)
    """

    @abstractmethod
    def train_on_batch(self, batch: Any) -> BatchOutput | None:
        """Assigns the trainable variables, and returns the output of the forward pass."""


def from_variables(model: Model) -> FunctionalModel:
    """A new instance of a model with TensorFlow variables, as functions of their values.

    Raises:
        TypeError: if a property or method gives something else than `Model` says, or cannot be compiled.
    """
    return _Functions(model).model()


class _Functions:
    """The methods of a model as functions of values."""

    def __init__(self, instance: Model) -> None:
        self._instance, self._name = instance, type(instance).__name__
        tf = import_tensorflow(f"the model {self._name}")
        self._trainable = Group(dict(sorted(self._variables(tf, "trainable_variables").items())))
        self._rest = Group(dict(sorted(self._variables(tf, "non_trainable_variables").items())))
        self._local = Group(self._variables(tf, "local_variables"))
        self._groups = self._trainable, self._rest, self._local
        self._forward_pass = converted(instance.forward_pass)
        self._spec = instance.input_spec
        self._batch_type = self._input_type()
        leaves = tensors(self._batch_type)
        what = self._name
        self._forward = {
            training: VariableFunction(
                lambda *flat, training=training: self._checked(
                    self._forward_pass(self._batch(flat), training=training), f"{what}.forward_pass"
                ),
                leaves,
                f"{what}.forward_pass",
                self._groups,
            )
            for training in (True, False)
        }
        given = [*leaves, FACTOR]
        self._gradients = VariableFunction(self._differentiated, given, f"{what}.forward_pass", self._groups)
        self._report = VariableFunction(
            converted(instance.report_local_outputs), [], f"{what}.report_local_outputs", [self._local]
        )

    def model(self) -> FunctionalModel:
        """The model."""
        weights = ModelWeights.create(self._trainable.initial(), self._rest.initial())
        local = self._local.initial()
        trains = isinstance(self._instance, TrainableModel)
        return FunctionalModel(
            name=self._name,
            batch_type=self._batch_type,
            initial_weights=weights,
            initial_local=local,
            forward=self._pass,
            metrics=self._metrics(local),
            local_outputs=lambda values: self._as_declared(self._local_outputs(values)),
            optimizer=None,
            train_on_batch=self._training_step() if trains else None,
            gradients=self._forward_and_gradients,
            differentiable=False,
            wide=trains or is_wide(type_of((weights, local))) or is_wide(self._batch_type),
        )

    def _variables(self, tf: Any, attribute: str) -> dict[str, Any]:
        found = [_variable(variable) for variable in getattr(self._instance, attribute)]
        for variable in found:
            if not isinstance(variable, tf.Variable):
                raise TypeError(
                    f"{self._name}.{attribute} holds {variable!r}; it must return the tf.Variables that the "
                    "constructor made"
                )
        return named(found)

    def _input_type(self) -> Type:
        try:
            return to_type(self._spec)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{self._name}.input_spec must be a structure of tf.TensorSpecs, such as "
                f"OrderedDict(x=tf.TensorSpec([None, 784]), …): {error}"
            ) from error

    def _batch(self, flat: Sequence[Any]) -> Any:
        return _in_structure(self._spec, iter(flat))

    def _checked(self, output: Any, what: str) -> dict[str, Any]:
        if not isinstance(output, BatchOutput):
            raise TypeError(
                f"{what} must return hansa.learning.BatchOutput(loss, predictions), found {type(output).__name__}"
            )
        return output._replace(loss=scalar_loss(output.loss, what))._asdict()

    def _differentiated(self, *given: Any) -> Any:
        *flat, factor = given

        def passed() -> dict[str, Any]:
            return self._checked(self._forward_pass(self._batch(flat), training=True), f"{self._name}.forward_pass")

        return with_gradients(passed, list(self._trainable.variables.values()), factor)

    def _pass(self, weights: ModelWeights, local: Struct, batch: Any, training: bool, key: Any) -> Forward:
        return self._run(self._forward[training], weights, local, jax.tree.leaves(batch), key)[1]

    def _forward_and_gradients(
        self, weights: ModelWeights, local: Struct, batch: Any, key: Any, scale_loss: ScaleLoss
    ) -> tuple[Forward, Struct]:
        leaves = [*jax.tree.leaves(batch), factor_of(scale_loss)]
        results, forward = self._run(self._gradients, weights, local, leaves, key)
        return forward, Struct(zip(weights.trainable._fields, results["gradients"], strict=True))

    def _run(
        self, function: VariableFunction, weights: ModelWeights, local: Struct, leaves: list[Any], key: Any
    ) -> tuple[Any, Forward]:
        given = [weights.trainable, weights.non_trainable, local]
        results, (_, rest, local, _) = function(leaves, given, function.slots.initial(), key)
        return results, Forward(_output(results), rest, local)

    def _training_step(self) -> TrainingStep:
        instance, what = self._instance, f"{self._name}.train_on_batch"
        assert isinstance(instance, TrainableModel)

        train_on_batch = converted(instance.train_on_batch)

        def train(*flat: Any) -> Any:
            output = train_on_batch(self._batch(flat))
            return {} if output is None else self._checked(output, what)

        function = VariableFunction(train, tensors(self._batch_type), what, self._groups, keeps_slots=True)

        def apply(weights: ModelWeights, local: Struct, slots: Struct, batch: Any, key: Any) -> Trained:
            given = [weights.trainable, weights.non_trainable, local]
            results, (trainable, rest, local, slots) = function(jax.tree.leaves(batch), given, slots, key)
            return Trained(_output(results), ModelWeights.create(trainable, rest), local, slots)

        return TrainingStep(lambda weights: function.slots.initial(), apply)

    def _local_outputs(self, local: Struct) -> Any:
        given = self._report.slots.initial()
        what = f"{self._name}.report_local_outputs"
        if given:
            raise TypeError(f"{what} reads the variable {given._fields[0]!r}, which is not one of local_variables")
        results, _ = self._report([], [local], given, jax.random.key(0))
        return to_struct(results, what)

    def _metrics(self, local: Struct) -> Any:
        """The user's aggregation, with the metrics in the order of their names."""
        with jax.enable_x64(True):
            shapes = jax.eval_shape(self._local_outputs, jax.tree.map(np.asarray, local))
        kind = infer_type(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes))
        what, missing = f"{self._name}.federated_output_computation", "return it from report_local_outputs"
        self._as_declared, aggregate = own_aggregation(self._instance.federated_output_computation, kind, what, missing)
        metrics = aggregate.type_signature.result
        fields = metrics.member if isinstance(metrics, FederatedType) else metrics
        if not isinstance(fields, StructType) or None in fields.names:
            raise TypeError(
                f"{what} must return the metrics by name, such as "
                f"{{'loss': hansa.federated_average(outputs.loss, …)}}, found {metrics}"
            )
        names = sorted(str(name) for name in fields.names)

        @federated_computation(cast(Type, aggregate.type_signature.parameter))
        def aggregate_metrics(outputs: Any) -> Any:
            found = aggregate(outputs)
            return intrinsics.federated_zip(Struct((name, found[name]) for name in names))

        return aggregate_metrics


def _output(results: dict[str, Any]) -> BatchOutput:
    return BatchOutput(results.get("loss"), results.get("predictions"), results.get("num_examples"))


def _variable(variable: Any) -> Any:
    """The TensorFlow variable in a variable of Keras."""
    value = getattr(variable, "value", None)
    return variable if value is None or callable(value) else value


def _in_structure(spec: Any, flat: Any) -> Any:
    """Tensors in the structure of specs."""
    if isinstance(spec, Mapping):
        return Fields((name, _in_structure(part, flat)) for name, part in spec.items())
    if isinstance(spec, tuple) and hasattr(spec, "_fields"):
        return type(spec)(*(_in_structure(part, flat) for part in spec))
    if isinstance(spec, list | tuple):
        return type(spec)(_in_structure(part, flat) for part in spec)
    return next(flat)
