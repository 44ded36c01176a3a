"""The process that looks at modules: reads them from its input, and writes what it finds of each, a line of JSON.

It is started by path (`process`), so that `hansa` itself, and JAX with it, is not imported.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

_MEMORY = 8 << 30
"""Bytes of address space beside what the imports take."""

_SECONDS, _BYTES_A_SECOND = 20, 20_000
"""Of a processor, for all modules: so many, and one more for so many bytes."""


def main() -> None:
    """Reads a line of JSON, with the places of packages and how long each module is, and then the modules."""
    source = sys.stdin.buffer
    told = json.loads(source.readline())
    sys.path[:] = told["path"]
    package = types.ModuleType("hansa")  # without what its __init__ imports
    package.__path__ = [str(Path(__file__).parents[1])]
    sys.modules["hansa"] = package
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import sdy, stablehlo

    from hansa.portable.check import check
    from hansa.portable.tensors import Refused

    _limit(_SECONDS + sum(told["lengths"]) // _BYTES_A_SECOND)
    for length in told["lengths"]:
        context = ir.Context()
        stablehlo.register_dialect(context)
        sdy.register_dialect(context)
        try:
            module = stablehlo.deserialize_portable_artifact(context, source.read(length))
            if not module.operation.verify():
                raise ValueError("MLIR does not verify it")
            signature = check(module)
            found = {
                "arguments": [str(kind) for kind in signature.arguments],
                "results": [str(kind) for kind in signature.results],
                "is_open": signature.is_open,
            }
        except Refused as error:
            found = {"refused": str(error)}
        except Exception as error:
            found = {"damaged": f"{type(error).__name__}: {str(error)[:300]}"}
        print(json.dumps(found), flush=True)


def _limit(seconds: int) -> None:
    """Takes no more than it should. Where the system has no limits, the other process's patience is the limit."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits = {
            resource.RLIMIT_CPU: seconds,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_AS: pages * resource.getpagesize() + _MEMORY,
        }
        for what, most in limits.items():
            _, hard = resource.getrlimit(what)
            least = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(what, (least, hard))
    except (ImportError, OSError, ValueError):
        pass


if __name__ == "__main__":
    main()
