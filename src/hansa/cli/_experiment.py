"""A run, made of its configuration: the process, whose data, how it is evaluated, and `hansa.program.train`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import hansa
from hansa import learning, program, simulation
from hansa._tracebacks import users_lines
from hansa.cli import _code, _populations, _private, _user_code
from hansa.cli._models import ModelError, ModelSource
from hansa.cli._populations import Populations
from hansa.cli.config import RunConfig, stored
from hansa.cli.config.algorithms import algorithm_of, arguments
from hansa.cli.config.checking import Function
from hansa.cli.config.schema import TrainingTable
from hansa.learning import LearningProcess
from hansa.program.evaluating import FederatedEvaluation
from hansa.program.metrics import names_of, no_such_metric
from hansa.program.plan import evaluated_names
from hansa.simulation import ClientData
from hansa.simulation._values import cohort_size_of
from hansa.types import StructType


@dataclass(frozen=True)
class Experiment:
    """A configuration, and what it says, which is made when it is wanted.

    Attributes:
        config: the configuration.
    """

    config: RunConfig

    @cached_property
    def populations(self) -> Populations:
        """The clients."""
        return _populations.load(self.config.data)

    @cached_property
    def source(self) -> ModelSource:
        """What makes the model."""
        model, populations = self.config.model, self.populations
        classes = None if model.name is None else _populations.class_count(populations, self.config.data.label)
        return ModelSource(model, self.config.training.seed, populations.training.example_type, classes)

    @cached_property
    def process(self) -> LearningProcess:
        """The process, `next` of which is a round.

        Raises:
            ModelError, UserCodeError: if there is no such model, or it does not go with the data.
        """
        training = self.config.training
        algorithm = algorithm_of(self.config)
        said = {
            **_optimizer(training, "server"),
            **_optimizer(training, "client"),
            "client_weighting": training.weighting,
            "non_trainable": training.non_trainable,
            "seed": training.seed,
        }
        given = arguments(self.config, said, len(self.populations.training))
        given = {
            name: _user_code.load(value) if isinstance(value, Function) else value for name, value in given.items()
        }
        private = self.config.privacy
        if private is not None and private.unit == "example":
            sizes = self.populations.training.sizes if self.draws_cohorts else None
            optimizer = given.get("client_optimizer")
            given["client_optimizer"] = _private.steps(private, self.config.data, training, optimizer, sizes)
        elif private is not None:
            clients = len(self.populations.training)
            given["aggregator"] = _private.rule(private, training, clients, self.draws_cohorts)
        process: LearningProcess = _checked(lambda: algorithm.function(self.source.model_fn, **given))
        return process

    @cached_property
    def evaluation(self) -> FederatedEvaluation | None:
        """From a state to the metrics of the model on whom it is evaluated on; None if nobody."""
        population = self.populations.evaluation
        if population is None:
            return None
        made = _checked(lambda: learning.build_federated_evaluation(self.source.model_fn))
        return FederatedEvaluation(made, population)

    @property
    def draws_cohorts(self) -> bool:
        """Whether the server draws who takes part; else who answers does."""
        return True

    @property
    def _has_secret_cohorts(self) -> bool:
        """Whether cohorts are drawn by a secret of the run, as where clients as a whole are protected."""
        return self.config.privacy is not None and self.config.privacy.unit == "client"

    @property
    def clients(self) -> Any:
        """Whom the model is trained on."""
        return self.populations.training

    def train(
        self, folder: Path, config: Mapping[str, Any], rounds: int, progress: Any, allow_changes: bool = False
    ) -> program.TrainingResult:
        """Run the rounds, or those that are still to be run.

        Args:
            folder: of the run.
            config: what it is to be the same run with; see `identity`.
            rounds: how many it is to have.
            progress: where it is shown.
            allow_changes: whether it may go on as another run than it was.
        """
        training = self.config.training
        if self.evaluation is None:
            for name, default in (("evaluate_initial", False), ("evaluate_every", 1)):
                if getattr(training, name) != default:
                    raise ModelError(
                        f"training.{name}: nothing is held out, and the data has no test examples; hold some out: "
                        "data.held_out = 0.1"
                    )
        cohort_size, sampler = self.sampling()
        with self.runtime():
            return self._train(folder, config, rounds, progress, allow_changes, cohort_size, sampler)

    def _train(
        self,
        folder: Path,
        config: Mapping[str, Any],
        rounds: int,
        progress: Any,
        allow_changes: bool,
        cohort_size: int | float | None,
        sampler: Callable[[int], Any] | None,
    ) -> program.TrainingResult:
        training, private = self.config.training, self.config.privacy
        if private is not None and private.unit == "example" and not self.draws_cohorts:
            private = None  # each device accounts for itself
        return program.train(
            self.process,
            self.clients,
            rounds,
            cohort_size=cohort_size,
            sampler=sampler,
            seed=0 if self._has_secret_cohorts else training.seed,
            privacy=None if private is None else _private.budget(private),
            evaluate=self.evaluation,
            evaluate_every=training.evaluate_every,
            evaluate_initial=training.evaluate_initial,
            run_dir=folder,
            allow_changes=allow_changes,
            checkpoint_every=training.checkpoint_every,
            keep_checkpoints=training.keep_checkpoints,
            keep_every=training.keep_every,
            sinks=self.sinks(folder),
            callbacks=self.callbacks,
            config=dict(config),
            progress=progress,
        )

    @cached_property
    def callbacks(self) -> list[program.Callback]:
        """What is done after each round.

        Raises:
            ModelError: if one looks at a metric that there is not, or whose name does not say which way is better.
        """
        training = self.config.training
        callbacks: list[program.Callback] = []
        stopping, best = training.early_stopping, training.best_model
        if stopping is not None:
            self._check_metric("early_stopping", stopping.monitor)
            options = {"patience": stopping.patience, "min_delta": stopping.min_delta, "mode": stopping.mode}
            callbacks.append(_watching("early_stopping", program.EarlyStopping, stopping.monitor, options))
        if best is not None:
            self._check_metric("best_model", best.monitor)
            callbacks.append(_watching("best_model", program.BestModel, best.monitor, {"mode": best.mode}))
        return callbacks

    def sampling(self) -> tuple[int | float | None, Callable[[int], Any] | None]:
        """How clients are drawn: a number of them, or a sampler."""
        training, data = self.config.training, self.populations.training
        size, again = training.cohort_size, training.with_replacement
        if size is None:
            return None, None
        if size > len(data) and not again:
            raise ModelError(f"training.cohort_size = {size}: there are {len(data)} clients to train on")
        if training.sampler == "uniform" and not again:
            return size, None
        count = cohort_size_of(size, len(data), replace=again)
        seed = None if self._has_secret_cohorts else training.seed
        if training.sampler == "uniform":
            return None, simulation.UniformSampler(len(data), count, seed, replace=True)
        if training.sampler == "poisson":
            share = size if isinstance(size, float) else size / len(data)
            return None, simulation.PoissonSampler(len(data), share, seed=seed)
        return None, simulation.WeightedSampler(data.sizes, count, seed=seed, replace=again)

    @contextlib.contextmanager
    def runtime(self) -> Iterator[None]:
        """Has clients worked for where the configuration says, in the block."""
        chosen = self.config.runtime
        if chosen.kind == "in-process":
            yield
            return
        with (
            hansa.RayRuntime(chosen.workers, chosen.resources, chosen.address, mixed=chosen.mixed) as workers,
            hansa.runtime(workers),
        ):
            yield

    def sinks(self, folder: Path) -> list[Any]:
        """Where metrics go besides."""
        output = self.config.output
        makers: dict[str, Callable[[], Any]] = {
            "tensorboard": lambda: program.TensorBoard(folder / "tensorboard"),
            "mlflow": lambda: program.MLflow(output.project, output.tracking_uri, run_name=folder.name),
            "wandb": lambda: program.WeightsAndBiases(output.project, name=folder.name),
        }
        return [makers[name]() for name in output.sinks]

    def _check_metric(self, key: str, metric: str) -> None:
        result = self.process.next.type_signature.result
        assert isinstance(result, StructType)
        known = names_of(result["metrics"])
        evaluated = evaluated_names(self.evaluation)
        if known is None:
            return
        problem = no_such_metric(
            metric, [*known, *(evaluated or ())], self.evaluation is not None, evaluated is not None
        )
        if problem is not None:
            raise ModelError(f'training.{key}.monitor = "{metric}": {problem}')


def everyone(population: ClientData) -> Any:
    """The batches of all clients."""
    return population.cohort(np.arange(len(population)))


def identity(config: RunConfig) -> dict[str, Any]:
    """What a run that goes on must have the same: all but length, folder and runtime; and the user's files."""
    values = stored(config)
    del values["training"]["rounds"]
    del values["runtime"]
    values["output"].pop("folder", None)
    return {**values, "files": _code.kept(config)}


def _watching(key: str, callback: Callable[..., Any], monitor: str, options: Mapping[str, Any]) -> Any:
    try:
        return callback(monitor, **options)
    except ValueError as error:
        raise ModelError(f"training.{key}: {error}") from None


def _optimizer(training: TrainingTable, who: str) -> dict[str, Any]:
    """What is said of the clients' or the server's optimizer, as arguments of a builder."""
    key, table = f"{who}_optimizer", getattr(training, f"{who}_optimizer")
    rate = getattr(training, f"{who}_learning_rate")
    if table is None:
        return {f"{who}_learning_rate": rate}
    rate = table.learning_rate if rate is None else rate
    if not table.options:
        return {key: table.name, f"{who}_learning_rate": rate}
    import optax

    options = {"learning_rate": rate, **table.options}
    return {key: _user_code.call(getattr(optax, table.name), options, f"training.{key}.options")}


def _checked(build: Callable[[], Any]) -> Any:
    """What is built of a model; what Hansa says against the model becomes the user's error."""
    try:
        return build()
    except (TypeError, ValueError) as error:
        raise ModelError("\n  ".join([f"model: {error}", *users_lines(error)])) from error
