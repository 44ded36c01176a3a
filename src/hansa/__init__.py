"""Hansa: federated learning, typed and compiled."""
from hansa.runtime.inprocess import InProcessRuntime, use_every_core
from hansa.language import context as _context
from hansa.language.tracing import federated_computation, jax_computation
from hansa.language.intrinsics import *
from hansa.types import *
from hansa.types.batches import Batches, ClientBatches
use_every_core()
_r=[]
def _default():
    if not _r: _r.append(InProcessRuntime())
    return _r[0]
_context.set_default_runtime(_default)
