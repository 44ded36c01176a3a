"""SCAFFOLD (Karimireddy et al. 2020, arXiv:1910.06378, Algorithm 1): clients correct their steps for their own drift.

Lines are those of the paper's Algorithm 1. x is the server's model, y a client's, c and c_i their controls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Unpack

from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.arithmetic import add, add_scaled, difference, moved, scale, subtract, zeros_like
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import Finalizer
from hansa.learning.hparams import Hparam
from hansa.learning.passes import mean_gradient
from hansa.learning.process import LearningProcess, build_process
from hansa.models.model import FunctionalModel
from hansa.models.optimizer import sgd
from hansa.models.tensorflow.models import Model


def build_scaffold(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel,
    *,
    client_learning_rate: float,
    population: int,
    server_learning_rate: float = 1.0,
    option: Literal["I", "II"] = "II",
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """SCAFFOLD: the server and each client keep a control, a mean gradient, and the clients' steps follow g - c_i + c.

    Clients take steps of SGD, so there is a rate and no optimizer. Every client that has a part in a round counts the
    same. A client that has never taken part has the control 0.

    Args:
        client_learning_rate: eta_l, above 0, of the clients' SGD.
        population: N, the number of all clients, of which some take part in a round.
        server_learning_rate: eta_g, above 0, of the server's step.
        option: how a client's control comes of a round (line 12): with "I" it is the gradient of all its examples at
            the server's model, which takes another pass over them; with "II" the mean of the gradients of its steps.
        model_fn, aggregator, distributor, seed: as of `build_federated_averaging_process`. The aggregator is given
            updates `<model,control>`, where `control` is the change of c_i.

    Returns:
        A process with the state `<server=<…>@SERVER,clients={<work=<control=<…>>>}@CLIENTS>`: c is
        `state.finalizer.control`, c_i `state.clients[client_id].work.control`. All three numbers are hyper-parameters
        of the state.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> process = hansa.learning.build_scaffold(model, client_learning_rate=0.1, population=10)
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(3)))
        >>> state.finalizer.control["dense/bias"].shape
        (10,)
    """

    def direction(gradient: Any, weights: Any, at: Any) -> Any:
        return add(gradient, subtract(at.sent.control, at.own.control))  # line 10

    def finish(at: Any, y: Any, steps: Any, num_examples: Any) -> Any:
        x, c, c_i = at.sent.model, at.sent.control, at.own.control
        if option == "I":
            new = at.seen.gradient  # line 12
        else:
            followed = scale(1 / (steps * at.hparams.client_learning_rate), subtract(x.trainable, y.trainable))
            new = add(subtract(c_i, c), followed)
        told = followed if tells_gradient else subtract(new, c_i)
        return {"model": difference(y, x), "control": told}, 1.0, {"control": new}  # line 13

    def apply(state: Any, total: Any, num_clients: Any) -> Any:
        x = moved(state.model, total.model, state.hparams.server_learning_rate)  # lines 16 and 17
        share, c = num_clients / state.hparams.population, state.finalizer.control
        change = subtract(total.control, c) if tells_gradient else total.control
        return state._replace(model=x, finalizer={"control": add_scaled(c, share, change)})

    def control(weights: Any) -> Any:
        return {"control": zeros_like(weights.trainable)}

    if option not in ("I", "II"):
        raise ValueError(f"option is 'I' or 'II', found {option!r}")
    # With option II, c_i's change is the gradient that was followed minus c, the same for all: so its mean is that of
    # the gradients minus c. Those have no differences of nearly equal numbers, for which exact sums take longer. With a
    # distributor clients have another c than the server.
    as_it_is = process.get("aggregator") is None and process.get("distributor") is None
    tells_gradient = option == "II" and as_it_is
    rate = {"client_learning_rate": Hparam(client_learning_rate, above=0)}
    work = local_training(
        client_optimizer=lambda hparams: sgd(hparams.client_learning_rate),
        first_pass=mean_gradient() if option == "I" else None,
        direction=direction,
        finish=finish,
        sent=lambda state: {"model": state.model, "control": state.finalizer.control},  # line 3
        own=control,
        hparams=rate,
    )
    of_server = {
        "server_learning_rate": Hparam(server_learning_rate, above=0),
        "population": Hparam(population, least=1),
    }
    finalizer = Finalizer(apply, initial=control, hparams=of_server)
    return build_process(model_fn, client_work=work, finalizer=finalizer, name="SCAFFOLD", **process)
