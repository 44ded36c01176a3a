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
  hansa runs first                   list its runs
  hansa report RUN                   write a page about a run
  hansa COMMAND --help               the options of a command, and examples

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
  hansa demo --data mnist                   MNIST, downloaded if needed
  hansa demo --json | tail -n 1             the result for a program

MNIST is looked for in the folder HANSA_DATA_DIR, then in the cache.

*It leaves* metrics.csv (every round), curves.png (with Matplotlib) and
model.keras, which keras.models.load_model reads. Ctrl-C stops after the running
round; the exit code is then 130.
""")

AFTER_NEW = laid_out("""
*Examples*
  hansa new first                        writes model.py, run.toml, data.py, README.md
  hansa train first/run.toml             runs it at once, offline
  hansa new second --framework torch     the same, with a PyTorch module
  hansa new third --algorithm scaffold   the same, trained by SCAFFOLD
  hansa new fourth --network             a coordinator and three devices, here
  hansa new fifth --task instruction     adapters of a language model that learns to answer
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
the running round. `hansa resume FOLDER`, or the same command again, goes on with
a run that was stopped or killed, and ends with the same model, to the bit.
""")

AFTER_RESUME = laid_out("""
*Examples*
  hansa resume runs/first                 go on to the last round
  hansa resume runs/first --rounds 100    and then further

If model.py has changed, nothing is done, and the changes are shown;
--allow-changes takes it as it is now.

*It runs the Python files that the folder names*, and prints which. A folder from
somebody else is a program from somebody else.
""")

AFTER_EVALUATE = laid_out("""
*Examples*
  hansa evaluate runs/first
  hansa evaluate runs/first --metric loss --worst 3
  hansa evaluate runs/first --on training --json

*It runs the Python files that the folder names*, and prints which. A folder from
somebody else is a program from somebody else.
""")

AFTER_RUNS = laid_out("""
*Examples*
  hansa runs                 the runs in this folder, three levels deep
  hansa runs experiments --json

*States*
  running    a process works on it
  finished   all its rounds are done
  stopped    by Ctrl-C, or early for the reason that is shown
  killed     it did not reach its end: hansa resume goes on with it
  damaged    run.json or metrics.jsonl is damaged; hansa resume sets the file
             aside, and goes on from the last good checkpoint

Nothing in the folders is changed or locked.
""")

AFTER_REPORT = laid_out("""
*Examples*
  hansa report runs/first                 writes runs/first/report.html
  hansa report runs/first --to page.html

The page loads nothing, so it can be opened and sent anywhere. It can be
written while the run goes on. After hansa evaluate, it also shows how good the
model is for each client.
""")

AFTER_PRIVACY = laid_out("""
*Examples*
  hansa privacy status runs/first        what is promised, and what is left of the budget
  hansa privacy verify runs/first        whether the ledger is sound

A run is private if it was given a budget: the table [privacy] of its TOML file, or
hansa.program.train(…, privacy=hansa.privacy.Budget(…)) in Python. Both commands only read,
also while the run goes on; --json prints what they find for programs. They need
pip install 'hansa[privacy]'.
""")

AFTER_NETWORK = laid_out("""
*Examples*
  hansa network init coordinator         make a coordinator's folder
  hansa network status coordinator       what goes on
  hansa network verify coordinator       whether all is as it was written

Each command has --json, for programs.
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
  hansa explain run.toml --require private --require protected
""")

AFTER_DOCTOR = laid_out("""
*States*
  ok         works
  missing    only some need it; the line says how to install it
  broken     Hansa does not work without it; the exit code is then 1
""")

AFTER_INIT = laid_out("""
*Examples*
  hansa network init net                      on this machine alone
  hansa network init net --host 0.0.0.0 --name fl.example.org --port 443

network.toml has the settings; change them there.
""")

AFTER_INVITE = laid_out("""
*Examples*
  hansa network invite net --client ann --to ann.txt
  hansa network invite net --uses 100 --days 1    for a hundred devices
  hansa network invite net --operator eve --to eve.txt    for a person, from elsewhere

On the device, hansa join ann.txt --data ann.csv takes it.
""")

AFTER_LOGIN = laid_out("""
*Examples*
  hansa network login eve.txt --folder eve
  hansa network runs eve                      what goes on there

The key is made here and stays here. The certificate lasts 90 days; then another invitation is needed.
""")

AFTER_SUBMIT = laid_out("""
*Examples*
  hansa network submit eve run.toml --devices 3 --least 2
  hansa network submit eve run.toml --name second --devices 50 --over-select 1.3
  hansa network submit net run.toml           on the coordinator's own machine

hansa serve FOLDER, at the coordinator, trains what is submitted. Submitting the same again is of no harm.
""")

AFTER_LOG = laid_out("""
*Examples*
  hansa network log eve first
  hansa network log eve first --follow --json
  hansa network log eve first --checkpoint first.hansa    hansa.program.load_checkpoint reads it
""")

AFTER_VERIFY = laid_out("""
*It looks at*
  database       SQLite's own check of every page
  audit          a chain of digests over who was invited, enrolled, revoked
  outcomes       each task of a closed round has one, and one alone
  contributions  the bytes of each one that counts and is still kept
  blobs          the bytes of what was sent
  keys           that nobody else may read them

The exit code is 1 if something is not as it was written.
""")

AFTER_REPLAY = laid_out("""
*Examples*
  hansa network replay net
  hansa network replay net --run mnist --round 7

Contributions of the newest round of each run are kept. keep_rounds in
network.toml keeps those of earlier ones, too. The exit code is 1 if something
else becomes of them than did then.
""")

AFTER_SERVE = laid_out("""
*Examples*
  hansa serve net                             let devices join, and train what is submitted
  hansa serve net run.toml --devices 3        train with three devices or more
  hansa serve net run.toml --least 50 --over-select 1.3 --deadline 120

Killed at any moment and started again, it goes on where it was, to the bit.
""")
