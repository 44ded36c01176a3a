"""The longer texts of `hansa --help` and `hansa COMMAND --help`: what is about it all, and examples of each command."""

from __future__ import annotations

import re

import click


def laid_out(text: str) -> str:
    """A text as it is to be printed after a command's options: its lines stay, and what is between `*` is bold."""
    paragraphs = re.sub(r"\*(.+?)\*", lambda found: click.style(found[1], bold=True), text.strip()).split("\n\n")
    return "\n\n".join(f"\b\n{paragraph}" for paragraph in paragraphs)


ABOUT = """
Federated learning. Clients keep their data, a server keeps the model, and a typed program says
what moves between them.
"""

WHERE_NEXT = laid_out("""
*Begin here*
  hansa demo                         ten clients train a model, offline
  hansa demo --data mnist            the same with MNIST
  hansa new first                    a project of your own, in a folder
  hansa train first/run.toml         train it; run.toml says what and how
  hansa runs first                   how far runs are
  hansa report RUN                   a page about one
  hansa COMMAND --help               what a command takes and leaves

*Or*, in Python
  import hansa
  hansa.federated_computation(lambda: 'Hello, World!')()

*Exit codes*
  0 done; 1 an error in the run; 2 a mistake in what was asked for;
  130 Ctrl-C. HANSA_TRACEBACK=1 shows where an error came from.
""")

AFTER_DEMO = laid_out("""
*Examples*
  hansa demo --rounds 10 --run-dir runs/a   choose where the files go
  hansa demo --data mnist                   MNIST, downloaded if need be
  hansa demo --json | tail -n 1             the result for a program

MNIST is looked for in the folder HANSA_DATA_DIR names, then in the cache.
It is a run like any other: resume, evaluate, report and runs work on its folder.

*It leaves* metrics.csv (every round), curves.png (with Matplotlib) and
model.keras, which keras.models.load_model reads. Ctrl-C stops after the running
round and keeps what was made; the exit code is then 130.
""")

AFTER_NEW = laid_out("""
*Examples*
  hansa new first              writes model.py, run.toml, data.py, README.md
  hansa train first/run.toml   runs it at once, offline
""")

AFTER_TRAIN = laid_out("""
*Examples*
  hansa train run.toml
  hansa train first                          the run.toml in the folder first
  hansa train first --rounds 50              another number of rounds
  hansa train first --set training.seed=2 --fresh    a new run, in a new folder
  hansa train run.toml --json | tail -n 1    the result for a program

*It leaves*, in the run's folder, metrics.csv and metrics.jsonl (every round),
curves.png (with Matplotlib), model.keras, and checkpoints. Ctrl-C stops after
the running round. Stopped or killed, `hansa resume FOLDER`, or the same command
again, goes on with it, and ends with the same model, to the bit.
""")

AFTER_RESUME = laid_out("""
*Examples*
  hansa resume runs/first                 go on to the last round
  hansa resume runs/first --rounds 100    and then further

The folder says all that is needed. A run whose model.py has changed is
refused, with what has changed; --allow-changes takes it as it is now.

*It runs the Python files that the folder names*, which are printed. A folder from
somebody else is a program from somebody else.
""")

AFTER_EVALUATE = laid_out("""
*Examples*
  hansa evaluate runs/first
  hansa evaluate runs/first --metric loss --worst 3
  hansa evaluate runs/first --on training --json

*It runs the Python files that the folder names*, which are printed. A folder from
somebody else is a program from somebody else.
""")

AFTER_RUNS = laid_out("""
*Examples*
  hansa runs                 those in this folder, three levels deep
  hansa runs experiments --json

*States*
  running    a process is at it
  finished   all its rounds are done
  stopped    by Ctrl-C, or early for the reason that is shown
  killed     it did not come to its end: hansa resume goes on with it
  damaged    run.json or metrics.jsonl is; hansa resume sets that aside, and
             goes on from the last good checkpoint

Runs are only looked at: nothing in their folders is changed or locked.
""")

AFTER_REPORT = laid_out("""
*Examples*
  hansa report runs/first                 writes runs/first/report.html
  hansa report runs/first --to page.html

The page loads nothing, so it can be opened and sent anywhere. It can be
written while the run is under way. How a model does at each client is in it
once hansa evaluate has been run.
""")

AFTER_DATA = laid_out("""
*Examples*
  hansa data mnist                       a data set, dealt out to ten clients
  hansa data run.toml --plot who.png     the clients of a run, with a picture
  hansa data run.toml --set data.partition.alpha=0.1
""")

AFTER_EXPLAIN = laid_out("""
*Examples*
  hansa explain run.toml
  hansa explain run.toml --svg round.svg
""")

AFTER_DOCTOR = laid_out("""
*States*
  ok         there, and works
  missing    something that only some need; the line says how to have it
  broken     nothing works without it; the exit code is then 1
""")
