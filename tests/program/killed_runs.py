"""A program that makes runs in child processes and kills them: `python killed_runs.py FOLDER SEED`.

It imports everything once and then forks, before JAX has started, so that a child begins within a second. Children are
killed (SIGKILL) at random moments, or right before and right after each operation by which files are written; the next
one resumes the run. For each kind there is a folder, and `undisturbed` for a run that is left alone. What happened is
printed as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hansa.program import CSV, BestModel, EarlyStopping, train
from tests.program.digits import Evaluation, averaging, population

ROUNDS = 14
FILE_OPERATIONS = ("open", "fsync", "replace", "unlink", "mkdir")


def run(folder: Path) -> None:
    """The run, which every child begins or resumes."""
    train(
        averaging(),
        population().shuffle(seed=5),
        ROUNDS,
        cohort_size=4,
        seed=11,
        evaluate=Evaluation(),
        evaluate_every=3,
        run_dir=folder,
        checkpoint_every=2,
        sinks=[CSV(folder.with_suffix(".csv"))],
        callbacks=[BestModel("loss"), EarlyStopping("evaluation/accuracy", 50, mode="max")],
        progress=False,
    )


def child(folder: Path, prepare: Callable[[], None] = lambda: None) -> int:
    """Starts a child; gives its process id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            prepare()
            run(folder)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def was_killed(pid: int) -> bool:
    """Waits for a child; whether it was killed, and not done."""
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "a child failed"
    return False


def die_at(folder: Path, moment: int) -> None:
    """Makes this process kill itself at a moment: before (even) or after (odd) the so many-th file operation."""
    count = 0

    def watched(operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            path = arguments[0] if arguments else ""
            if operation is not os.fsync and str(folder.parent) not in str(path):
                return operation(*arguments, **options)
            if moment == 2 * count:
                os.kill(os.getpid(), signal.SIGKILL)
            result = operation(*arguments, **options)
            if moment == 2 * count + 1:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return result

        return call

    for name in FILE_OPERATIONS:
        setattr(os, name, watched(getattr(os, name)))


def main(root: Path, seed: int) -> dict[str, Any]:
    """Makes all runs; gives how many children were killed in each."""
    begin = time.monotonic()
    assert not was_killed(child(root / "undisturbed"))
    duration = time.monotonic() - begin
    draw = random.Random(seed)
    kills = {"random": 0, "writing": 0}
    for _ in range(20):
        pid = child(root / "random")
        time.sleep(draw.uniform(0.1, 1.0) * duration)
        os.kill(pid, signal.SIGKILL)
        kills["random"] += was_killed(pid)
    assert not was_killed(child(root / "random"))
    # Each child gets a little further than the one before, so the run comes to its end.
    for moment in range(24):
        kills["writing"] += was_killed(child(root / "writing", lambda moment=moment: die_at(root, moment)))
    assert not was_killed(child(root / "writing"))
    return {"kills": kills, "duration": duration, "seconds": time.monotonic() - begin}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
