"""The project that `hansa new --network` writes: its commands, in processes, with a device that is killed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from hansa.cli._commands import app

HANSA = [sys.executable, "-m", "hansa.cli"]


def blocks(readme: str) -> list[list[str]]:
    """The commands of the README, block by block."""
    return [
        [line.strip() for line in block.splitlines()] for block in re.findall(r"(?:^    .*\n)+", readme, re.MULTILINE)
    ]


@pytest.fixture
def project(tmp_path):
    done = CliRunner().invoke(app, ["new", str(tmp_path / "first"), "--network"])
    assert done.exit_code == 0 and "README.md says how it runs, in four terminals." in done.output, done.output
    return tmp_path / "first"


def test_the_readme_names_commands_that_there_are(project):
    commands = [line.split()[1:] for block in blocks((project / "README.md").read_text()) for line in block]
    assert len(commands) == 14
    for words in commands:
        if words[0].endswith(".py"):
            assert (project / words[0]).exists()
            continue
        command = app.get_command(None, words[0])
        if words[0] == "network":
            command, words = command.get_command(None, words[1]), words[1:]
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, words
    assert "first" in (project / "README.md").read_text()


@pytest.mark.whole
def test_the_commands_of_the_readme_train_and_a_device_may_be_killed(project):
    run_toml = project / "run.toml"
    run_toml.write_text(run_toml.read_text().replace("rounds = 20", "rounds = 6"))
    begin, devices, look = blocks((project / "README.md").read_text())[:3]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    running = {}

    def start(line, log):
        words = [*HANSA, *line.split()[1:]] if line.startswith("hansa") else [sys.executable, *line.split()[1:]]
        with (project / f"{log}.log").open("ab") as file:
            running[log] = subprocess.Popen(
                words, cwd=project, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        return running[log]

    def until(log, pattern, seconds=900):
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, (project / f"{log}.log").read_text())):
            assert running[log].poll() is None and time.monotonic() < end, (project / f"{log}.log").read_text()
            time.sleep(0.1)
        return found

    try:
        for line in begin[:-1]:
            assert start(line.replace("init net", "init net --port 0"), "begin").wait(900) == 0, line
            if line.startswith("hansa network init"):
                serving = start(begin[-1] + " --json", "serve")
                page = json.loads(until("serve", r"(\{.*serving.*\})\n")[1])["page"]
        for name, line in zip(("ann", "bo", "cy"), devices, strict=True):
            start(line, name)
        until("serve", r'"event": "round", "round": 1,')
        running["cy"].kill()
        running["cy"].wait()
        start("hansa join --data cy.npz --folder cy", "cy")
        until("serve", r'"event": "round", "round": 4,')
        token = page.partition("token=")[2]
        asked = urllib.request.Request(page.partition("?")[0] + "metrics", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            assert 'hansa_devices{state="enrolled"} 3' in answer.read().decode()
        assert serving.wait(900) == 0, (project / "serve.log").read_text()
        end = json.loads((project / "serve.log").read_text().splitlines()[-1])
        assert (end["event"], end["rounds"]) == ("end", 6) and end["metrics"]["evaluation/accuracy"] > 0.5
        for line in look[:-1]:
            assert start(line, "look").wait(900) == 0, (line, (project / "look.log").read_text())
        assert "All is as it was written." in (project / "look.log").read_text()
        assert (
            "the same" in (project / "look.log").read_text() and "next  counted" in (project / "look.log").read_text()
        )
    finally:
        for process in running.values():
            process.kill()
            process.wait()


def test_files_of_the_project_are_read_as_they_are(project):
    from hansa.cli.config import read_config
    from hansa.network.policy import Policy

    assert Policy.read(project / "policy.toml").min_cohort == 3
    assert read_config(project / "run.toml", []).training.rounds == 20
    assert Path(project / "devices.py").read_text().startswith('"""Writes')
