"""`Computation`: a typed function, as a graph and a runtime know it. What happens when one is called is in
`computations`.
"""

from __future__ import annotations

from typing import Any

from hansa._tracebacks import boundaries
from hansa.types import FunctionType


@boundaries
class Computation:
    """A typed function: call it with data to run it, with values to use it in another computation.

    Attributes:
        type_signature: its type, such as `(<model=float32[10],batch=int32*> -> float32)`.
        name: the name of the Python function it was made from.
        where: `file:line` of the user's code that made it, or an empty string.

    A computation that was made of a Python function has its docstring, `__module__` and `__wrapped__`.
    """

    __wrapped__: Any
    __signature__: Any

    def __init__(self, name: str, signature: FunctionType, where: str = "") -> None:
        self.name = name
        self.type_signature = signature
        self.where = where
        self.__name__ = self.__qualname__ = name

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Runs it on data, or records the call if the arguments are values of a computation that is being traced."""
        raise NotImplementedError

    def called_with(self, argument: Any) -> Any:
        """Runs it, or records the call, with the one argument that it takes, or None."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.type_signature}>"

    def __deepcopy__(self, memo: Any) -> Computation:
        """The same: a computation does not change."""
        return self
