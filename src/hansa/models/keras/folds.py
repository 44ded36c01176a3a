"""How the values of a Keras metric's variables of several batches come together: as a sum, a greatest or a least value.

Nothing in a metric says so, so it is tried: batches one after another must leave what comes of each by itself, from
zero. Keras is not imported here: the metrics bring their functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.language.local import tensors, unflatten
from hansa.types import Struct, StructType, TensorType, Type

_FOLDS: Mapping[str, Callable[[npt.NDArray[Any]], Any]] = MappingProxyType(
    {"sum": lambda each: each.sum(0), "max": lambda each: each.max(0), "min": lambda each: each.min(0)}
)
_EXAMPLES = 5
_RANGES = {"bits": 3, "shares": 12, "wide": 3, "large": 3}
"""How many batches of each range: of one more, for what only begins, or ends, after some."""


def folds_of(
    metrics: Sequence[Any],
    variables: Sequence[Any],
    kind: Callable[[], StructType],
    update: Callable[[Any], None],
    remedy: Callable[[Any], str],
) -> list[str]:
    """The fold of each variable: "sum", "max" or "min".

    Those of Keras's own metrics are sums, as a test of all of them says. Others are tried on batches that are made up
    here, and left as they were.

    Args:
        metrics: the metrics.
        variables: their variables.
        kind: makes the type of what they are updated with; its field `predictions` says how many classes there are.
        update: updates their variables with a value of that type.
        remedy: from a metric to how to write it instead.

    Raises:
        ValueError: if a variable has none of these folds; the message names the metric, and what was found.
    """
    tried = [metric for metric in metrics if not type(metric).__module__.startswith("keras.")]
    found = {id(variable): list(_FOLDS) for metric in tried for variable in metric.variables}
    own = [variable for variable in variables if id(variable) in found]
    if not own:
        return ["sum"] * len(variables)
    before = [np.array(variable.numpy()) for variable in own]
    try:
        for batches in _draws(kind()):
            each = [_after(tried, own, [batch], update, from_zero=True) for batch in batches]
            for order in (batches, batches[::-1]):
                together = _after(tried, own, order, update)
                for i, variable in enumerate(own):
                    alone = np.stack([values[i] for values in each])
                    size = float(np.abs(alone).astype("float64").max(initial=0))
                    left = [fold for fold in found[id(variable)] if _is_close(_FOLDS[fold](alone), together[i], size)]
                    if not left:
                        raise ValueError(_message(tried, variable, together[i], alone, remedy))
                    found[id(variable)] = left
    finally:
        for variable, value in zip(own, before, strict=True):
            variable.assign(value)
    return [found.get(id(variable), ["sum"])[0] for variable in variables]


def _after(
    metrics: Sequence[Any],
    variables: Sequence[Any],
    batches: Sequence[Any],
    update: Callable[[Any], None],
    from_zero: bool = False,
) -> list[npt.NDArray[Any]]:
    """The variables after some batches, from where the metrics start, or from zero."""
    for metric in metrics:
        metric.reset_state()
    for variable in variables if from_zero else ():
        variable.assign(np.zeros(variable.shape, variable.dtype))
    for batch in batches:
        update(batch)
    return [np.array(variable.numpy()) for variable in variables]


def _message(
    metrics: Sequence[Any], variable: Any, together: Any, alone: npt.NDArray[Any], remedy: Callable[[Any], str]
) -> str:
    metric = next(metric for metric in metrics if any(variable is own for own in metric.variables))
    if together.ndim:
        at = np.argmax(together != alone.sum(0))
        together, alone = together.ravel()[at], alone.reshape(len(alone), -1)[:, at]
    return (
        f"the metric {metric.name!r}, {type(metric).__name__}, cannot be put together of batches: after {len(alone)} "
        f"of them its variable {variable.name!r} is {together:.6g}, and after each by itself, from zero, "
        f"{', '.join(f'{value:.6g}' for value in alone)}. The variables of Keras metrics must be sums over batches, or "
        f"greatest or least values. {remedy(metric)}"
    )


def _is_close(one: npt.NDArray[Any], other: npt.NDArray[Any], size: float) -> bool:
    """Whether numbers are the same but for rounding of numbers of a size."""
    if other.dtype.kind in "iub":
        return np.array_equal(one, other)
    rounding = max(1e-4, 10 * float(np.finfo(other.dtype).eps) if other.dtype.kind == "f" else 0.1)
    atol = rounding * size if np.isfinite(size) else 0
    return np.allclose(one.astype("float64"), other.astype("float64"), rtol=rounding, atol=atol, equal_nan=True)


def _draws(kind: StructType) -> Iterator[list[Any]]:
    """Batches of numbers of several ranges: what an extreme keeps of one range may look like a sum in another."""
    sizes = [leaf.shape[-1] or 1 for leaf in tensors(kind["predictions"]) if leaf.shape]
    classes = min((size for size in sizes if size > 1), default=2)
    random = np.random.default_rng(0)
    for span, batches in _RANGES.items():
        spans = [(name, "shares" if (name, span) == ("predictions", "bits") else span) for name in kind.names]
        yield [
            Struct([(name, _draw(kind[str(name)], of, classes, random)) for name, of in spans]) for _ in range(batches)
        ]


def _draw(kind: Type, span: str, classes: int, random: np.random.Generator) -> Any:
    def draw(leaf: TensorType) -> Any:
        shape = tuple(size or (_EXAMPLES if axis == 0 else 1) for axis, size in enumerate(leaf.shape))
        if leaf.dtype.kind not in "fV" or span == "bits":
            return random.integers(0, classes if leaf.dtype.kind in "iu" else 2, shape).astype(leaf.dtype)
        numbers = random.uniform(0.02, 0.98, shape) if span == "shares" else random.normal(0, 10, shape)
        return (1000 * numbers if span == "large" else numbers).astype(leaf.dtype)

    return unflatten(kind, [draw(leaf) for leaf in tensors(kind)])


def metrics_in(model: Any) -> list[Any]:
    """The compiled metrics of a model, and its own and its layers'."""
    found = []
    for metric in model.metrics:
        of_keras = type(metric).__module__.startswith("keras.")
        found += list(metric.metrics) if of_keras and hasattr(metric, "metrics") else [metric]
    return found
