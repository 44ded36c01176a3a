"""q-FedAvg (Li et al. 2020, arXiv:1905.10497, Algorithm 2): clients with a high loss count more.

w is the server's model, L = 1 / eta for the clients' rate eta, and F_k the mean loss of client k at w.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from hansa.learning.algorithms.arguments import OfProcess
from hansa.learning.arithmetic import difference, moved, scale, squared_norm
from hansa.learning.client_training import local_training
from hansa.learning.finalizers import Finalizer
from hansa.learning.hparams import Hparam
from hansa.learning.passes import mean_loss
from hansa.learning.process import LearningProcess, build_process
from hansa.models.model import FunctionalModel
from hansa.models.optimizer import sgd
from hansa.models.tensorflow.models import Model

_TINY = 1e-10
"""What the authors' code adds to losses, so that powers of 0 are finite."""


def build_q_fed_avg(
    model_fn: Callable[[], FunctionalModel | Model] | FunctionalModel,
    *,
    q: float,
    client_learning_rate: float,
    **process: Unpack[OfProcess],
) -> LearningProcess:
    """q-FedAvg, for the objective sum_k F_k^(q+1) / (q+1): the larger q, the more alike are the clients' losses.

    Clients take steps of SGD. Every client that has a part in a round counts the same but for its loss, which it finds
    in a pass over its data before training. A client whose loss is negative is left out.

    Args:
        q: at least 0; with 0 it is federated averaging with equal weights.
        client_learning_rate: eta, above 0.
        model_fn, aggregator, distributor, seed: as of `build_federated_averaging_process`. The aggregator is given
            updates `<model,h>`, of which the server takes the quotient.

    Returns:
        A process as of `build_federated_averaging_process`. Both numbers are hyper-parameters of its state.

    Raises:
        TypeError, ValueError: if an argument is not what is said above.

    Examples:
        >>> process = hansa.learning.build_q_fed_avg(model, q=1.0, client_learning_rate=0.1)
        >>> state, metrics = process.next(process.initialize(), data.cohort(range(10)))
        >>> state.hparams.q
        np.float32(1.0)
    """

    def finish(at: Any, after: Any, steps: Any, num_examples: Any) -> Any:
        loss, q, L = at.seen.loss + _TINY, at.hparams.q, 1 / at.hparams.client_learning_rate
        change = difference(after, at.sent.model)
        delta = scale(L, change.trainable)  # minus the paper's: what is added
        h = q * loss ** (q - 1) * squared_norm(delta) + L * loss**q
        return {"model": change._replace(trainable=scale(loss**q, delta)), "h": h}, 1.0, None

    def apply(state: Any, total: Any, num_clients: Any) -> Any:
        return state._replace(model=moved(state.model, total.model, 1 / total.h))

    numbers = {
        "q": Hparam(q, least=0),
        "client_learning_rate": Hparam(client_learning_rate, above=0),
    }
    work = local_training(
        client_optimizer=lambda hparams: sgd(hparams.client_learning_rate),
        first_pass=mean_loss(),
        finish=finish,
        hparams=numbers,
    )
    return build_process(model_fn, client_work=work, finalizer=Finalizer(apply), name="q-FedAvg", **process)
