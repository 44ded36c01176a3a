"""Virtual environments of the peers, each made once from a file of pinned requirements."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

_REQUIREMENTS = Path(__file__).parent / "requirements"
_PYTHON = (3, 11)


class NotInstalled(Exception):
    """An environment cannot be made on this machine; says why."""


def folder() -> Path:
    """Where the environments are: `HANSA_PEERS_DIR`, or `.peers` beside the benchmarks."""
    return Path(os.environ.get("HANSA_PEERS_DIR") or Path(__file__).parents[2] / ".peers").absolute()


def python_of(name: str) -> Path:
    """The interpreter of an environment, which is made first if it is not there or its requirements have changed.

    The files name every package with its version, so nothing is resolved: the old pins of some peers contradict each
    other, though the packages work together.

    Raises:
        NotInstalled: if there is no Python 3.11, or pip fails; the end of its messages is given.
    """
    requirements = _REQUIREMENTS / f"{name}.txt"
    home = folder() / name
    python, stamp = home / "bin" / "python", home / "requirements.sha256"
    if not requirements.exists():
        raise NotInstalled(f"there are no requirements for {name!r}")
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return python
    shutil.rmtree(home, ignore_errors=True)
    print(f"installing {name} into {home} …", file=sys.stderr, flush=True)
    _run(_base_python(), "-m", "venv", home)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]
    # An index that cannot be reached is asked about every package, and pip would try for a long time.
    _run(*pip, "--retries", "1", "--requirement", requirements)
    stamp.write_text(digest)
    return python


def log_of(peer: str) -> Path:
    """The file for what a peer's worker prints, the last time it ran."""
    path = folder() / "logs" / f"{peer}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _base_python() -> str:
    if sys.version_info[:2] == _PYTHON:
        return sys.executable
    name = ".".join(map(str, _PYTHON))
    found = shutil.which(f"python{name}")
    if found is None:
        raise NotInstalled(f"the peers need Python {name}, and there is no python{name} on the PATH")
    return found


def _run(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()] or lines or [f"exit status {done.returncode}"]
        raise NotInstalled(errors[-1].strip())
