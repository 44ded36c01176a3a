"""Reads StableHLO, in which other frameworks give their compiled functions, as JAX functions.

`read` takes the text of a module. `read_sized` takes the texts of one function for batches of several sizes, and gives
a function for batches of every size, also symbolic ones: what differs between the texts is written as a function of the
size. So what was compiled elsewhere is padded, masked and fused like what was written in JAX.
"""

from hansa.stablehlo.evaluate import evaluate
from hansa.stablehlo.module import Module, read
from hansa.stablehlo.operations import UnsupportedOperation
from hansa.stablehlo.sizes import SAMPLE_SIZES, NotSized, read_sized

__all__ = ["SAMPLE_SIZES", "Module", "NotSized", "UnsupportedOperation", "evaluate", "read", "read_sized"]
