"""What the language's operations and decorators take and give, as types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import jax
import numpy.typing as npt

from hansa.language.computation import Computation
from hansa.language.computations import PolymorphicComputation
from hansa.language.values import Value
from hansa.types import Struct

Operand: TypeAlias = "Value | npt.ArrayLike | jax.Array | Struct | Mapping[str, Operand] | Sequence[Operand]"
"""A value of the computation that is traced, a constant, or a container of these."""

Function: TypeAlias = Computation | PolymorphicComputation | Callable[..., object]
"""A computation, or a Python function that becomes one with the types of what it is called on."""
