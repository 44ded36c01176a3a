"""The sizes of what is padded, spread and looked at in windows, before anything is cut off.

XLA makes such values in between, beside the results that a file declares, and ends the process if their sizes overflow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from hansa.portable.tensors import Tensor, tensor


def _pad(operation: Any, operands: Sequence[Tensor]) -> None:
    array, count = operands[0], len(operands[0].shape)
    spread = [inner + 1 for inner in _numbers(operation, "interior_padding", count, 0)]
    edges = zip(*(_numbers(operation, f"edge_padding_{side}", count, 0) for side in ("low", "high")), strict=True)
    _look(array.shape, spread, [tuple(pair) for pair in edges], array.element)


def _windows(operation: Any, operands: Sequence[Tensor]) -> None:
    array, count = operands[0], len(operands[0].shape)
    _look(array.shape, _numbers(operation, "base_dilations", count, 1), _padding(operation, count), array.element)
    window = _numbers(operation, "window_dimensions", count, 1)
    _look(window, _numbers(operation, "window_dilations", count, 1), [(0, 0)] * count, array.element)


def _convolution(operation: Any, operands: Sequence[Tensor]) -> None:
    sides = re.findall(r"\[([^\[\]]*)\]", str(operation.attributes["dimension_numbers"]))[:2]
    for name, array, axes, is_padded in zip(("lhs", "rhs"), operands, sides, (True, False), strict=False):
        places = [(int(axis), at) for at, axis in enumerate(axes.split(", ")) if axis.isdigit()]
        dilation = _numbers(operation, f"{name}_dilation", len(places), 1)
        padding = _padding(operation, len(places))
        spread, edges = [1] * len(array.shape), [(0, 0)] * len(array.shape)
        for number, at in places:
            spread[at] = dilation[number]
            edges[at] = padding[number] if is_padded else (0, 0)
        _look(array.shape, spread, edges, array.element)


_SIZES: dict[str, Callable[[Any, Sequence[Tensor]], None]] = {
    "stablehlo.pad": _pad,
    "stablehlo.reduce_window": _windows,
    "stablehlo.select_and_scatter": _windows,
    "stablehlo.convolution": _convolution,
}


def check(operation: Any, operands: Sequence[Tensor]) -> None:
    """Looks at the sizes in between of an operation, if it has such.

    Raises:
        Refused: if one is too large.
    """
    rule = _SIZES.get(operation.name)
    if rule is not None:
        rule(operation, operands)


def _look(shape: Sequence[int | None], spread: Sequence[int], edges: Sequence[tuple[int, int]], element: str) -> None:
    """Looks at an array whose elements are spread so far, with edges around; negative edges come later."""
    sizes = (
        None if size is None else max(size - 1, 0) * step + min(size, 1) + max(low, 0) + max(high, 0)
        for size, step, (low, high) in zip(shape, spread, edges, strict=True)
    )
    tensor(str(Tensor(tuple(sizes), element)))


def _padding(operation: Any, count: int) -> list[tuple[int, int]]:
    numbers = _numbers(operation, "padding", 2 * count, 0)
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _numbers(operation: Any, name: str, count: int, default: int) -> list[int]:
    if name not in operation.attributes:
        return [default] * count
    return [int(number) for number in operation.attributes[name]]
