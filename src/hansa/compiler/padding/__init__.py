"""Functions of a batch for fixed shapes: evaluated on more rows than there are, with the result of the true batch."""

from hansa.compiler.padding import control, order, reductions
from hansa.compiler.padding.batch import Batch, Rows, Unsupported, batch_axis, copy_first, multiple
from hansa.compiler.padding.walk import evaluate

__all__ = [
    "Batch",
    "Rows",
    "Unsupported",
    "batch_axis",
    "control",  # whose rules, as those of the next, are known once it is imported
    "copy_first",
    "evaluate",
    "multiple",
    "order",
    "reductions",
]
