"""PyTorch modules as JAX functions: `torch.export` gives the graph of ATen operations, a table what each is.

It needs PyTorch to make a graph, and JAX alone to evaluate it; it knows nothing of the rest of Hansa.
"""

from hansa.aten import (
    attention,
    convolutions,
    creation,
    elementwise,
    indexing,
    losses,
    norms,
    pooling,
    products,
    random,
    recurrent,
    reductions,
    resampling,
    shapes,
)
from hansa.aten.graph import Assigned, Graph, Input, Ref, Step
from hansa.aten.table import OPERATIONS, Operation, Unsupported, find

__all__ = [
    "OPERATIONS",
    "Assigned",
    "Graph",
    "Input",
    "Operation",
    "Ref",
    "Step",
    "Unsupported",
    "attention",  # whose operations, as those of the others, are known once it is imported
    "convolutions",
    "creation",
    "elementwise",
    "find",
    "indexing",
    "losses",
    "norms",
    "pooling",
    "products",
    "random",
    "recurrent",
    "reductions",
    "resampling",
    "shapes",
]
