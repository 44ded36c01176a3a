"""What is given where arrays are wanted, as a type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import jax
import numpy.typing as npt

from hansa.types.structs import Struct

Arrays: TypeAlias = "npt.ArrayLike | jax.Array | Struct | Mapping[str, Arrays] | Sequence[Arrays]"
"""An array, or arrays in a dict, a pair or another container."""
