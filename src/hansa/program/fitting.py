"""`fit`: the short way to `train`, of clients in the forms in which users have them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from hansa._instead import instead
from hansa.program.callbacks import Callback
from hansa.program.clients import to_population
from hansa.program.loop import TrainingResult, train
from hansa.program.progress import Progress
from hansa.program.records import Record
from hansa.templates import IterativeProcess

_PAIR = (
    "write evaluate=(keras_model, (x, y)), or, of clients that are held out, "
    "evaluate=(hansa.learning.build_federated_evaluation(model), held_out)"
)


@instead(
    clients_per_round="cohort_size",
    fraction_fit="cohort_size",
    model="process",
    num_rounds="rounds",
    validation_data=_PAIR,
    validation_freq="evaluate_every",
    verbose="progress",
    x="write data=, the examples of each client",
)
def fit(
    process: IterativeProcess,
    data: Any,
    rounds: int,
    *,
    cohort_size: int | float | None = None,
    batch_size: int | None = None,
    epochs: int | None = None,
    seed: int = 0,
    evaluate: Callable[[Any], Any] | tuple[Any, Any] | None = None,
    evaluate_every: int = 1,
    callbacks: Sequence[Callback | Callable[[int, Any, Record], str | None]] = (),
    run_dir: str | os.PathLike[str] | None = None,
    progress: bool | str | Progress = "auto",
    **options: Any,
) -> TrainingResult:
    """Train a model on clients for many rounds. The short form of `hansa.program.train`.

    Args:
        process: a learning process, such as `hansa.learning.build_federated_averaging_process(model)`.
        data: the clients. A `hansa.simulation.ClientData`; a list of clients, each with its examples,
            `{"x": x, "y": y}` or `(x, y)`, or with its batches (a list, a `hansa.Batches`, a `tf.data.Dataset`); a dict
            from each client's id to its examples; a `hansa.ClientBatches`; or a function from a round's number to the
            round's data.
        rounds: how many rounds.
        cohort_size: how many clients take part in a round, drawn at random: an integer, or a fraction of the clients as
            a float, such as 0.1; by default all.
        batch_size: examples per batch of a client, where the data is not in batches yet; by default 20.
        epochs: how often a client goes through such data in a round; by default once.
        seed: of the draw of clients.
        evaluate: what the model is evaluated by, and on what; see `hansa.program.train`:
            `(evaluation, held_out)`, `(keras_model, (x, y))`, `(function, data)`, or a function of the state.
        evaluate_every: after which rounds: this one, twice this, and so on; and after the last one.
        callbacks: what else is done after a round, such as `hansa.program.EarlyStopping(monitor="evaluation/loss")`.
        run_dir: a folder for metrics and checkpoints, with which a run that was stopped goes on.
        progress: whether rounds are shown: "auto", True or False.
        options: what else `hansa.program.train` takes.

    Returns:
        What came of it: `result.model`, the trained model, of a Keras model a Keras model; `result.history`, the
        metrics of each round; `result.state`.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> process = hansa.learning.build_federated_averaging_process(
        ...     model, client_optimizer="sgd", client_learning_rate=0.5
        ... )
        >>> clients = [(x[:50], y[:50]), (x[50:90], y[50:90])]
        >>> result = hansa.fit(process, clients, rounds=20, epochs=2, progress=False)
        >>> result
        TrainingResult(20 rounds, ...)
        >>> result.model.predict(x[:3], verbose=0).argmax(1) == y[:3]
        array([ True,  True,  True])
    """
    return train(
        process,
        to_population(data, batch_size, epochs),
        rounds,
        cohort_size=cohort_size,
        seed=seed,
        evaluate=evaluate,
        evaluate_every=evaluate_every,
        callbacks=callbacks,
        run_dir=run_dir,
        progress=progress,
        **options,
    )
