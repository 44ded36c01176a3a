"""The tables and keys of a run's TOML file. `docs/cli.md` has the same as a table, which is checked against this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from hansa.cli.config.checking import Function, key
from hansa.cli.config.choices import Algorithm, Coding, Rule
from hansa.models.named_optimizers import OptimizerName

DataName = Literal[
    "digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "emnist", "shakespeare", "tiny_shakespeare"
]
Folders = Literal["clients", "labels"]
FileFormat = Literal["csv", "parquet", "npz", "leaf", "tff_hdf5", "tff_sqlite", "images"]
Mode = Literal["auto", "min", "max"]
_MODE = "whether less or more is better; `auto` goes by the name"
PartitionMethod = Literal["iid", "dirichlet", "shards", "by_label", "by_quantity"]


@dataclass(frozen=True)
class ModelTable:
    """What is trained: a function of one's own, or a small model by name."""

    function: Function | None = key(
        "a function that returns a compiled Keras model, or a model of `hansa.learning`",
        None,
    )
    name: Literal["linear", "mlp", "cnn"] | None = key(
        "in place of `function`: softmax regression, one hidden layer, or a small convolutional network",
        None,
    )
    options: dict[str, Any] = key("arguments of the function; of a named model, `hidden`, its units", {})


@dataclass(frozen=True)
class PartitionTable:
    """How examples that have no clients are dealt out; see `hansa.simulation.partition_…`."""

    method: PartitionMethod = key("which partition")
    clients: int | None = key("how many clients; `by_label` makes one for each label without it", None, least=1)
    alpha: float | None = key("of `dirichlet` and `by_quantity`: small makes clients unlike", None, least=0)
    sigma: float | None = key("of `by_quantity`: how much sizes differ, in place of `alpha`", None, least=0)
    shards_per_client: int | None = key("of `shards`", None, least=1)
    labels_per_client: int | None = key("of `by_label`", None, least=1)
    min_examples: int | None = key("of `dirichlet` and `by_quantity`: no client has fewer", None, least=0)
    equal_sizes: bool | None = key("of `dirichlet`: all clients have as many examples", None)
    seed: int = key("decides who has which examples", 0, least=0)


@dataclass(frozen=True)
class ScaleTable:
    """How an array is scaled; see `ClientData.scale`."""

    subtract: Any = key("what is taken from it first: a number, or a list that goes with an example", 0.0)
    divide: Any = key("what it is divided by then, likewise", 1.0)


@dataclass(frozen=True)
class DataTable:
    """Whose data: a named data set, a file, or a function of one's own; and how a client goes through it."""

    name: DataName | None = key("a data set; see `hansa.simulation.load_…`", None)
    path: Path | None = key("in place of `name`: a file or folder of examples", None)
    format: FileFormat | None = key("of `path`, if its ending does not say it", None)
    function: Function | None = key(
        "in place of `name`: a function that returns a `ClientData`, and perhaps a second one to evaluate on",
        None,
    )
    test_path: Path | None = key("a second file or folder like `path`, to evaluate on", None)
    options: dict[str, Any] = key("arguments of the function or the reader", {})
    client: str | None = key("the column, or the array of an `npz` file, that says whose an example is", None)
    folders: Folders | None = key("of `images`: what folders are; by default labels, if there is a `partition`", None)
    features: dict[str, Any] = key(
        'of a file: arrays and their columns, `{ x = ["height", "weight"], y = "label" }`', {}
    )
    types: dict[str, str] = key('of a file: types of arrays, `{ x = "float32", y = "int32" }`', {})
    scale: dict[str, ScaleTable] | None = key(
        "what is subtracted from arrays, and what they are then divided by: `{ x = { subtract = 33, divide = 79 } }`",
        None,
    )
    label: str = key("the array of labels, for partitions", "y")
    partition: PartitionTable | None = key("how examples without clients are dealt out", None)
    max_clients: int | None = key("only the first so many clients", None, least=1)
    examples_per_client: int | None = key("only the first so many examples of each client", None, least=1)
    held_out: float = key("the fraction to evaluate on, not to train on", 0.0, least=0, most=0.99)
    held_out_by: Literal["examples", "clients"] = key("hold out examples of each client, or whole clients", "examples")
    batch_size: int = key("examples per batch of a client", 20, least=1)
    epochs: int = key("passes through a client's examples in a round", 1, least=1)
    steps: int | None = key("in place of `epochs`: so many batches for each client", None, least=1)
    drop_remainder: bool = key("leave short batches out", False)
    across_epochs: bool = key("fill the last batch of an epoch from the next", False)
    shuffle: bool = key("a new order of the examples each time", True)
    seed: int = key("decides what is held out, and the order", 0, least=0)


@dataclass(frozen=True)
class OptimizerTable:
    """An optimizer of Optax."""

    SHORT: ClassVar[str] = "name"

    name: OptimizerName = key("which one")
    learning_rate: float | None = key("in place of `client_learning_rate` or `server_learning_rate`", None, least=0)
    options: dict[str, Any] = key("its other arguments, such as `{ momentum = 0.9 }`", {})


@dataclass(frozen=True)
class EarlyStoppingTable:
    """When a run stops early; see `hansa.program.EarlyStopping`."""

    monitor: str = key("the metric, such as `evaluation/loss`", was="metric")
    patience: int = key("evaluations without improvement until the run stops", 0, least=0)
    min_delta: float = key("an improvement is more than this", 0.0, least=0)
    mode: Mode = key(_MODE, "auto")


@dataclass(frozen=True)
class BestModelTable:
    """Which round's model is kept beside the last one; see `hansa.program.BestModel`."""

    monitor: str = key("the metric, such as `evaluation/loss`", was="metric")
    mode: Mode = key(_MODE, "auto")


@dataclass(frozen=True)
class TrainingTable:
    """How it is trained."""

    rounds: int = key("how many rounds", least=1)
    cohort_size: int | float | None = key(
        "how many clients take part in a round, or which fraction; by default all",
        None,
        was="clients_per_round",
    )
    sampler: Literal["uniform", "weighted", "poisson"] = key(
        "how they are drawn: equally likely; in proportion to their examples; each by itself, `cohort_size` on average",
        "uniform",
    )
    with_replacement: bool = key("a client may be drawn several times for a round", False)
    seed: int = key("of the first weights and all draws in rounds", 0, least=0)
    client_optimizer: OptimizerTable | None = key("the clients' optimizer; by default the model's own", None)
    client_learning_rate: float | None = key("the learning rate of `client_optimizer`", None, least=0)
    server_optimizer: OptimizerTable | None = key(
        "the server's optimizer; by default SGD; with a rate of 1, plain averaging", None
    )
    server_learning_rate: float | None = key(
        "the learning rate of `server_optimizer`; by default 1, of SGD", None, least=0
    )
    weighting: Literal["num_examples", "sample_weight", "uniform"] | None = key(
        "a client's weight in the average; by default the algorithm's, of federated averaging `num_examples`", None
    )
    non_trainable: Literal["mean", "server"] = key(
        "of weights that are not trained: the clients' mean, or the server's", "mean"
    )
    evaluate_every: int = key("evaluate every so many rounds, and after the last", 1, least=1)
    evaluate_initial: bool = key("also evaluate before the first round, as round 0", False)
    checkpoint_every: int = key("save every so many rounds", 10, least=1)
    keep_checkpoints: int = key("how many of the newest are kept", 2, least=1)
    keep_every: int | None = key(
        "also keep the checkpoint of every so many rounds; a multiple of `checkpoint_every`",
        None,
        least=1,
    )
    early_stopping: EarlyStoppingTable | None = key("when the run stops before its last round", None)
    best_model: BestModelTable | None = key("also keep the best model", None)


@dataclass(frozen=True)
class PrivacyTable:
    """What a private run may spend, and its noise; see `hansa.privacy`."""

    epsilon: float = key("the run stops before the round that would exceed it", least=0)
    delta: float = key("with this probability nothing is promised; far below 1 / clients", least=0, most=1)
    unit: Literal["client", "example"] = key(
        "what is protected: a client as a whole, by noise in the mean; or each of its examples, by DP-SGD there",
        "client",
    )
    clip: float | None = key(
        "the norm that a client's update is shortened to, by default following the median of the norms; or that of an "
        "example's gradient",
        None,
        least=0,
    )
    noise_multiplier: float | None = key(
        "the standard deviation of the noise, in norms; by default as much as `training.rounds` need", None, least=0
    )
    per_layer: bool = key("each array of an update has its own part of `clip`", False)
    metrics: Literal["none", "open"] = key(
        "of the clients: none, or all without noise, for which nothing is promised", "none"
    )
    metric_ranges: dict[str, Any] = key(
        "metrics of the clients with noise: the least and greatest value of each, `{ accuracy = [0, 1] }`", {}
    )
    metrics_noise_multiplier: float | None = key(
        "of the noise in these, by default five times that of the whole", None, least=0
    )
    steps: int | None = key("of `example`: how many steps a client takes in a round", None, least=1)
    sampling_rate: float | None = key(
        "of `example`: the probability of each to be in a step; by default so that `data.batch_size` are expected",
        None,
        least=0,
        most=1,
    )
    max_examples: int | None = key(
        "of `example`: for how many of a client there is room; by default the most that one has", None, least=1
    )


@dataclass(frozen=True)
class OutputTable:
    """Where results go."""

    folder: Path | None = key(
        "the run's folder; with `--fresh`, `FOLDER-2` if it is taken; by default a new one, `runs/FILE-TIME`",
        None,
    )
    sinks: list[Literal["tensorboard", "mlflow", "wandb"]] = key(
        "where metrics go as well: TensorBoard (in the run's folder), MLflow, Weights & Biases", []
    )
    project: str = key("MLflow's experiment; the project of Weights & Biases", "hansa")
    tracking_uri: str | None = key("where MLflow keeps its runs; by default as MLflow is configured", None)


@dataclass(frozen=True)
class RuntimeTable:
    """Where the clients of a round are worked for. The results do not depend on it."""

    kind: Literal["in-process", "ray"] = key(
        "by this process, or by the workers of a Ray cluster (`hansa.RayRuntime`)", "in-process"
    )
    workers: int = key("of `ray`: how many", 2, least=1)
    resources: dict[str, Any] = key("of `ray`: what each worker asks Ray for, such as `{ num_gpus = 1 }`", {})
    address: str | None = key(
        'of `ray`: the cluster, such as `"auto"`; by default that of `RAY_ADDRESS`, or one of this machine alone', None
    )
    mixed: Literal["refuse", "warn"] = key(
        "of `ray`: what is done about workers with other versions, or another kind of device", "refuse"
    )


@dataclass(frozen=True)
class RunConfig:
    """A run."""

    model: ModelTable = key("what is trained")
    data: DataTable = key("whose data")
    training: TrainingTable = key("how")
    algorithm: Algorithm | None = key(
        "how clients and server train: a `build_…` of `hansa.learning`, its own arguments as keys; by default "
        "`federated_averaging`",
        None,
    )
    aggregator: Rule | None = key(
        "how the clients' updates become one: a rule of `hansa.aggregators`, its arguments as keys; by default their "
        "weighted mean",
        None,
    )
    distributor: Coding | None = key(
        "how what the server sends comes to the clients: a codec of `hansa.aggregators.codecs`, its arguments as keys; "
        "by default as it is",
        None,
    )
    privacy: PrivacyTable | None = key(
        "differential privacy: noise in the clients' mean update, and a budget; each client is then in a cohort by "
        "itself (`poisson`), and draws of cohorts are secret; or DP-SGD at each client",
        None,
    )
    output: OutputTable = key("where results go", OutputTable())
    runtime: RuntimeTable = key("where clients are worked for", RuntimeTable())
