"""The `hansa` command. Ctrl-C ends it before and after it runs, too: from here on, and until Python has ended.

It stands beside the package, as importing anything of a package imports the package first; and it imports nothing that
is not in every Python process already, before Ctrl-C is handled. (`signal` makes enumerations of what `_signal` has.)
"""

import _signal  # type: ignore[import-not-found]
import os


def main() -> None:
    """Run the command line."""
    if _signal.getsignal(_signal.SIGINT) != _signal.SIG_IGN:
        _signal.signal(_signal.SIGINT, _end)
        import atexit

        # What is registered first is called last. The command has done its work then, and Python only tidies up.
        atexit.register(_signal.signal, _signal.SIGINT, _signal.SIG_IGN)
    from hansa.cli import main as run

    run()


def _end(signum: int, frame: object) -> None:
    try:
        os.write(2, b"hansa: interrupted\n")
    finally:
        os._exit(130)
