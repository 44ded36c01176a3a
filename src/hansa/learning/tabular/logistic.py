"""Logistic regression on the data of all clients, by Newton's method: sums of gradients and curvatures."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from hansa.aggregators.checks import check_number, check_whole
from hansa.language import intrinsics as on
from hansa.language.computation import Computation
from hansa.language.sequences import sequence_reduce
from hansa.language.tracing import federated_computation, wide_computation
from hansa.learning.tabular.rows import Rows, rows_of
from hansa.templates import EstimatorProcess
from hansa.types import CLIENTS, SERVER, FederatedType, SequenceType, StructType, TensorType, Type
from hansa.types._typing import Arrays

_SHARES = np.array([0, *(0.5**k for k in range(12))])
"""The shares of Newton's step that are tried; the first one is to stay."""


def build_logistic_regression(
    num_classes: int, sample_batch: Arrays, *, features: str = "x", labels: str = "y", C: float = 1.0
) -> EstimatorProcess:
    """A process that finds the logistic regression with a penalty on its coefficients, by Newton's method.

    It minimises `C` times the sum of the log losses plus |w|² / 2, as scikit-learn does. In a round with all clients,
    these report the gradient and the Hessian of their losses, (`classes` (`features` + 1))² numbers, or
    (`features` + 1)² where there are two classes; then their losses after several shares of Newton's step, of which the
    server takes the best (damped Newton: Boyd and Vandenberghe, "Convex Optimization", 9.5.2). So no round makes it
    worse. After six to twelve rounds `gradient_norm` is at rounding, for most tables.

    Args:
        num_classes: how many classes there are; labels are integers from 0.
        sample_batch: a batch as the clients have them: arrays `[examples, …]` by name.
        features: the name of the array of features, of any dtype of numbers.
        labels: the name of the array of labels, integers `[examples]`.
        C: the weight of the losses beside the penalty.

    Returns:
        A process with the state `<coef=float64[n,features],intercept=float64[n]>@SERVER`, where n is 1 for two classes.
        `to_sklearn(state)` gives a `sklearn.linear_model.LogisticRegression`. The metrics of a round are
        `num_examples`; `loss`, the mean log loss after it; `gradient_norm`, of what is minimised, divided by the number
        of examples, before it; `step`, the share of Newton's step; and `num_excluded_clients`, of which nothing is
        counted since a number is NaN, infinite, or larger than 1e150, or a label is no class.

    Raises:
        TypeError: if there are no such features or labels.
        ValueError: if a number is out of range.

    Examples:
        >>> clients = [
        ...     hansa.Batches({"x": np.float32([[0], [2], [7]]), "y": np.int32([0, 1, 1])}, 2),
        ...     hansa.Batches({"x": np.float32([[1]]), "y": np.int32([0])}, 2),
        ... ]
        >>> process = hansa.learning.tabular.build_logistic_regression(2, clients[0])
        >>> state = process.initialize()
        >>> for _ in range(6):
        ...     state, metrics = process.next(state, clients)
        >>> process.to_sklearn(state).predict_proba([[1.5]]).round(3)
        array([[0.584, 0.416]])
    """
    check_whole("num_classes", num_classes, 2)
    check_number("C", C, above=0)
    rows = rows_of(sample_batch, "logistic regression", features=features, labels=labels, classes=num_classes)
    outputs = num_classes if num_classes > 2 else 1
    shape = (outputs, rows.width + 1)
    penalised = np.tile(np.arange(rows.width + 1) < rows.width, outputs)
    # The same number more for each class changes no loss: no step goes there.
    together = np.outer(~penalised, ~penalised) * (outputs > 1)
    curve = _curve(rows, shape)
    curve_type = curve.type_signature.result

    @wide_computation()
    def begin() -> Any:
        return {"coef": jnp.zeros((outputs, rows.width)), "intercept": jnp.zeros(outputs)}

    state_type = StructType(
        [("coef", TensorType("float64", (outputs, rows.width))), ("intercept", TensorType("float64", (outputs,)))]
    )

    @wide_computation(state_type)
    def weights_of(state: Any) -> Any:
        return jnp.concatenate([state.coef, state.intercept[:, None]], axis=1)

    @wide_computation(weights_of.type_signature.result, curve_type)
    def newton(weights: Any, sums: Any) -> Any:
        flat = weights.reshape(-1)
        gradient = C * sums.gradient + flat * penalised
        hessian = C * (sums.hessian + sums.count * together) + jnp.diag(penalised * 1.0)
        # Features of very different sizes make a Hessian that is far from singular only when it is scaled.
        size = jnp.sqrt(jnp.diag(hessian))
        scale = jnp.where(size > 0, 1 / size, 1.0)
        scaled = jax.scipy.linalg.solve(hessian * scale * scale[:, None], scale * gradient, assume_a="pos")
        # Where even that one is singular to rounding, the gradient still points down.
        step = -scale * jnp.where(jnp.isfinite(scaled).all(), scaled, scale * gradient)
        step = jnp.where((sums.count > 0) & jnp.isfinite(step).all(), step, 0.0)
        norm = jnp.sqrt(jnp.square(gradient).sum()) / sums.count
        return {"line": {"weights": weights, "step": step.reshape(shape)}, "gradient_norm": norm}

    towards_type = newton.type_signature.result
    assert isinstance(towards_type, StructType)
    losses = _losses(rows, towards_type["line"])

    @wide_computation(towards_type, curve_type, losses.type_signature.result)
    def best(towards: Any, sums: Any, losses: Any) -> Any:
        tried = towards.line.weights + _SHARES[:, None, None] * towards.line.step
        whole = C * losses + jnp.square(tried[:, :, :-1]).sum((1, 2)) / 2
        chosen = jnp.argmin(jnp.where(jnp.isfinite(whole), whole, jnp.inf))
        after = tried[chosen]
        return {
            "state": {"coef": after[:, :-1], "intercept": after[:, -1]},
            "metrics": {
                "num_examples": sums.count,
                "loss": (losses[chosen] / sums.count).astype(jnp.float32),
                "gradient_norm": towards.gradient_norm.astype(jnp.float32),
                "step": jnp.asarray(_SHARES)[chosen].astype(jnp.float32),
                "num_excluded_clients": sums.excluded,
            },
        }

    @federated_computation(FederatedType(state_type, SERVER), FederatedType(SequenceType(rows.batch_type), CLIENTS))
    def next(state: Any, data: Any) -> Any:
        weights = on.federated_map(weights_of, state)
        sums = on.federated_sum(on.federated_map(curve, [on.federated_broadcast(weights), data]))
        towards = on.federated_map(newton, [weights, sums])
        line = on.federated_broadcast(towards.line)
        after = on.federated_map(best, [towards, sums, on.federated_sum(on.federated_map(losses, [line, data]))])
        return after.state, after.metrics

    def fitted(state: Any) -> dict[str, Any]:
        return {
            "classes_": np.arange(num_classes),
            "coef_": np.array(state.coef),
            "intercept_": np.array(state.intercept),
            "n_features_in_": rows.width,
        }

    return EstimatorProcess(
        cast(Computation, federated_computation(lambda: on.federated_value(begin(), SERVER))),
        next,
        estimator="sklearn.linear_model.LogisticRegression",
        options={"C": C},
        fitted=fitted,
        settings={"classes": str(num_classes), "features": str(rows.width), "C": f"{C:g}"},
    )


def _scores(weights: Any, x: Any) -> Any:
    """The logits of all classes, float64 [examples, classes]; of two, the first one's are zero."""
    scores = x @ weights.T
    return scores if len(weights) > 1 else jnp.concatenate([jnp.zeros_like(scores), scores], axis=1)


def _with_ones(rows: Rows, batch: Any) -> Any:
    """The rows, with a column for the intercept."""
    x = rows.of(batch)
    return jnp.concatenate([x, jnp.ones((x.shape[0], 1))], axis=1)


def _curve(rows: Rows, shape: tuple[int, int]) -> Computation:
    """(weights, batches) -> the gradient and the Hessian of a client's loss, and how many examples it has."""
    outputs, width = shape
    size = outputs * width

    @wide_computation()
    def start() -> Any:
        return {
            "gradient": jnp.zeros(size),
            "own": jnp.zeros((outputs, width, width)),
            "products": jnp.zeros((size, size)),
            "count": jnp.int64(0),
            "all": jnp.bool_(True),
        }

    @wide_computation(start.type_signature.result, rows.batch_type, TensorType("float64", shape))
    def step(carry: Any, batch: Any, weights: Any) -> Any:
        x, classes = _with_ones(rows, batch), rows.memberships(batch)
        shares = jax.nn.softmax(_scores(weights, x), axis=1)[:, -outputs:]
        # Rows of all classes side by side, each weighted by the class's probability.
        weighted = shares[:, :, None] * x[:, None, :]
        flat = weighted.reshape(x.shape[0], size)
        return {
            "gradient": carry.gradient + ((shares - classes[:, -outputs:]).T @ x).reshape(size),
            "own": carry.own + jnp.einsum("nfi,nj->fij", weighted, x),
            "products": carry.products + flat.T @ flat,
            "count": carry.count + x.shape[0],
            "all": carry.all & rows.count(batch),
        }

    @wide_computation(start.type_signature.result)
    def finish(carry: Any) -> Any:
        # Of a class with itself there are the shares, from which those of all pairs are taken.
        own = (jnp.eye(outputs)[:, None, :, None] * carry.own[:, :, None, :]).reshape(size, size)
        sums = {"gradient": carry.gradient, "hessian": own - carry.products, "count": carry.count}
        kept = {name: jnp.where(carry.all, value, jnp.zeros((), value.dtype)) for name, value in sums.items()}
        return {**kept, "excluded": jnp.int64(~carry.all)}

    @federated_computation(TensorType("float64", shape), SequenceType(rows.batch_type))
    def curve(weights: Any, data: Any) -> Any:
        return finish(sequence_reduce(data, start(), step, given=weights))

    return curve


def _losses(rows: Rows, line_type: Type) -> Computation:
    """(<weights,step>, batches) -> a client's loss after each share of a step."""

    @wide_computation()
    def start() -> Any:
        return {"losses": jnp.zeros(len(_SHARES)), "all": jnp.bool_(True)}

    @wide_computation(start.type_signature.result, rows.batch_type, line_type)
    def step(carry: Any, batch: Any, line: Any) -> Any:
        x, classes = _with_ones(rows, batch), rows.memberships(batch)
        here, further = _scores(line.weights, x), _scores(line.step, x)

        def loss(share: Any) -> Any:
            scores = here + share * further
            return (jax.nn.logsumexp(scores, axis=1) - (classes * scores).sum(1)).sum()

        losses = jnp.stack([loss(share) for share in _SHARES])
        return {"losses": carry.losses + losses, "all": carry.all & rows.count(batch)}

    @wide_computation(start.type_signature.result)
    def finish(carry: Any) -> Any:
        return jnp.where(carry.all, carry.losses, 0.0)

    @federated_computation(line_type, SequenceType(rows.batch_type))
    def losses(line: Any, data: Any) -> Any:
        return finish(sequence_reduce(data, start(), step, given=line))

    return losses
