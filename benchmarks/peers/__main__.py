"""Runs the same workloads with Hansa and with other frameworks, round by round in turn, and prints the tables.

python -m benchmarks.peers [--only WORKLOAD] [--peers tff,fedjax-jit] [--repeat N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import hansa  # noqa: F401  it chooses Keras's backend, and so comes before what imports Keras
from benchmarks.peers.contest import PEERS, WARM_UP_ROUNDS, Contest
from benchmarks.peers.protocol import Task
from benchmarks.peers.table import HEADER, Row, line
from benchmarks.peers.tasks import all_tasks


def compared(task: Task, peers: list[str], repeat: int, timeout: float) -> list[Row]:
    """The rows of one workload, Hansa's first."""
    with tempfile.TemporaryDirectory() as folder, Contest(task, Path(folder), timeout) as contest:
        if not contest.rows[0].reason:
            for name in peers:
                print(f"{task.name}: the first round of {name}", file=sys.stderr, flush=True)
                contest.start(name, PEERS[name])
            for number in range(1, WARM_UP_ROUNDS + repeat):
                print(f"{task.name}: round {number + 1} of {WARM_UP_ROUNDS + repeat}", file=sys.stderr, flush=True)
                contest.round(number)
            contest.finish()
    return contest.rows


def main() -> int:
    """Runs the comparison; the exit status is 1 if Hansa fails, or a peer computes something else."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="workloads whose name holds this")
    parser.add_argument("--peers", default="", help=f"some of {','.join(PEERS)}, or the beginnings of names; all")
    parser.add_argument("--repeat", type=int, default=9, help="rounds after the warm-up; the median counts")
    parser.add_argument("--timeout", type=float, default=900, help="seconds that a peer may take for one round")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the workers are ended
    wanted = tuple(options.peers.split(","))
    rows: list[Row] = []
    for name, make in all_tasks().items():
        if options.only not in name:
            continue
        print(f"\n{name}\n{HEADER}", flush=True)
        try:
            task = make()
        except FileNotFoundError as reason:
            print(reason)
            continue
        of_task = compared(task, [peer for peer in PEERS if peer.startswith(wanted)], options.repeat, options.timeout)
        print("\n".join(line(row, of_task[0]) for row in of_task), flush=True)
        rows += of_task
        if options.json:
            options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 1 if any(not row.agrees or (row.peer == "hansa" and row.reason) for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
