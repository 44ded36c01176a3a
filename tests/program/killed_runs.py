"""A program that makes runs in child processes, and kills them:

    python killed_runs.py FOLDER random SEED
    python killed_runs.py FOLDER writing

It imports everything once and then forks, before JAX has started, so that a child begins within a second. Children are
killed (SIGKILL) at random moments, or right before and right after each operation by which files are written; the next
one resumes the run. It prints how many runs there were; the first kind also makes one that is left alone.
"""

from __future__ import annotations

import functools
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

from hansa.program import CSV, BestModel, EarlyStopping, running, train
from tests.program.digits import Evaluation, averaging, population

ROUNDS = 12
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


def die_at(folder: Path, moment: int, saving: bool) -> None:
    """Makes this process kill itself at a moment: before (even) or after (odd) the so many-th file operation.

    Args:
        folder: where operations count.
        moment: from 0.
        saving: whether they count from when the first checkpoint is about to be saved.
    """
    count, counts = 0, not saving
    save = running.Run._save

    def saving_begins(run: running.Run) -> None:
        nonlocal counts
        counts = True
        save(run)

    def watched(operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            if not counts or (operation is not os.fsync and str(folder) not in str(arguments[0])):
                return operation(*arguments, **options)
            mine, count = count, count + 1
            if moment == 2 * mine:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return operation(*arguments, **options)
            finally:
                if moment == 2 * mine + 1:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    running.Run._save = saving_begins
    for name in FILE_OPERATIONS:
        setattr(os, name, watched(getattr(os, name)))


def killed_at_random(root: Path, seed: int, kills: int) -> int:
    """Kills as many children at random moments; gives how many runs, `random-0` and so on, came to their end."""
    begin = time.monotonic()
    assert not was_killed(child(root / "undisturbed"))
    longest = time.monotonic() - begin
    draw = random.Random(seed)
    killed = runs = 0
    while killed < kills:
        pid = child(root / f"random-{runs}")
        delay = draw.uniform(0.1, 0.8) * longest
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
        if was_killed(pid):
            killed += 1
        else:
            # It was done before: the first child, which had to compile, is no measure.
            longest = min(longest, delay)
            runs += 1
    assert not was_killed(child(root / f"random-{runs}"))
    return runs + 1


def killed_in_writing(root: Path) -> int:
    """Kills a child at each moment of saving a checkpoint, and some at moments of beginning a run; gives how many runs,
    `writing-0` and so on, came to their end."""
    runs = 0
    for moment, saving in [*((moment, False) for moment in range(1, 24, 8)), *((moment, True) for moment in range(22))]:
        prepare = functools.partial(die_at, root, moment, saving)
        while not was_killed(child(root / f"writing-{runs}", prepare)):
            runs += 1
    assert not was_killed(child(root / f"writing-{runs}"))
    return runs + 1


if __name__ == "__main__":
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    print(killed_at_random(folder, int(sys.argv[3]), 20) if kind == "random" else killed_in_writing(folder))
