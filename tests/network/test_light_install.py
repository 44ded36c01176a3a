"""A device's own distribution: what it needs is little, and with it `hansa join` takes part in rounds, bit for bit."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

import numpy as np
import pytest

import hansa
from hansa.cli import light
from hansa.cli._commands import app
from hansa.cli.network.options import JOIN
from tests.program.digits import assert_same_bits, averaging, population

ROOT = Path(__file__).resolve().parents[2]
NEVER = ("keras", "tensorflow", "optax", "click", "rich", "typer", "aiohttp", "torch", "pandas")

HIDDEN = f"""
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {NEVER!r}:
            raise ModuleNotFoundError(f"no {{name}} here", name=name)

sys.meta_path.insert(0, Hidden())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {NEVER!r} else found(name, package)
sys.argv[0] = "hansa"
from hansa_command import main
main()
"""


def test_without_click_there_is_join_and_it_says_what_is_wrong(tmp_path, capsys):
    words = [sys.executable, "-c", HIDDEN, "join", "--folder", tmp_path, "--json"]
    told = subprocess.run(words, capture_output=True, text=True)
    assert told.returncode == 2 and "say what the data is: --data PATH" in told.stderr and "exit_code" in told.stdout
    with pytest.raises(SystemExit, match="2"):
        light.main(["train", "run.toml"])
    assert "invalid choice: 'train'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        light.main(["join", "--help"])
    assert "--dry-run" in (told := capsys.readouterr().out) and "hansa join ann.txt --data ann.npz" in told


def test_both_command_lines_take_the_same_and_read_it_alike(monkeypatch):
    from hansa.cli.network import joining

    words = ["ann.txt", "--data", "a.csv", "--feature", "x=a,b", "--feature", "y=c", "--type", "x=float32"]
    words += ["--grey", "--json", "--folder", "ann"]
    seen = []
    monkeypatch.setattr(joining, "command", lambda invitation, **asked: seen.append((invitation, asked)))
    light.main(["join", *words])
    app(["join", *words], standalone_mode=False)
    for _, asked in seen:
        asked.update({name: tuple(asked[name]) for name in ("features", "types")})
    assert seen[0] == seen[1] and seen[0][0] == "ann.txt"
    assert set(seen[0][1]) == {option.name for option in JOIN}
    assert seen[0][1]["data"] == Path("a.csv") and seen[0][1]["features"] == ("x=a,b", "y=c")


def required(text: str) -> set[str]:
    """The distributions that some metadata asks for without an extra, as they are called here."""
    asked = [line.partition(":")[2] for line in text.splitlines() if line.startswith("Requires-Dist:")]
    names = [re.match(r"\s*([\w.-]+)", line) for line in asked if "extra" not in line.partition(";")[2]]
    found = set()
    for name in names:
        try:
            found.add(importlib.metadata.distribution(name[1]).name)
        except importlib.metadata.PackageNotFoundError:  # of another system or Python
            continue
    return found


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment with the distribution, and with nothing but what it and they ask for; its folder of scripts.

    Those are linked from this environment, so that nothing is downloaded.
    """
    folder = tmp_path_factory.mktemp("light")
    for part in ("src", "packaging"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheel = ["wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder, folder / "packaging" / "core"]
    subprocess.run([*pip, *wheel], check=True)
    (file,) = folder.glob("hansa_core-*.whl")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    python = folder / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", "--no-deps", "--no-index", file], check=True)
    (metadata,) = packages.glob("hansa_core-*.dist-info/METADATA")
    left, linked = required(metadata.read_text()), set()
    while left:
        name = left.pop()
        linked.add(name)
        distribution = importlib.metadata.distribution(name)
        left |= required(distribution.read_text("METADATA") or "") - linked
        for top in {each.parts[0] for each in distribution.files or () if each.parts[0] not in ("..", "__pycache__")}:
            if not (packages / top).exists():
                (packages / top).symlink_to(distribution.locate_file(top))
    assert {"jax", "jaxlib", "numpy", "flatbuffers", "cryptography"} <= linked
    assert not linked & set(NEVER)
    return python.parent


@pytest.mark.slow
def test_a_device_of_a_light_install_has_the_bits_of_the_simulation(installed, tmp_path):
    asks = f"import importlib.util as u, hansa; print([n for n in {NEVER!r} if u.find_spec(n)], hansa.__file__)"
    done = subprocess.run([installed / "python", "-I", "-c", asks], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ") and str(installed.parent) in done.stdout
    process, data, devices = averaging(), population(2).shuffle(seed=5), []
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # it compiles as we do
    try:
        with hansa.network.serve(tmp_path / "net", port=0) as network:
            for client in (0, 1):
                np.savez(tmp_path / f"{client}.npz", **data.own_arrays(client))
                (tmp_path / f"{client}.txt").write_text(network.invite(client).to_text())
                with (tmp_path / f"{client}.log").open("wb") as log:
                    command = [installed / "hansa", "join", f"{client}.txt", "--data", f"{client}.npz", "--json"]
                    command += ["--folder", str(tmp_path / f"device{client}")]
                    devices.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log))
            end = time.monotonic() + 120
            while len(network.there()) < 2:
                assert all(each.poll() is None for each in devices) and time.monotonic() < end, [
                    (tmp_path / f"{client}.log").read_text() for client in (0, 1)
                ]
                time.sleep(0.1)
            found, clients = process.initialize(), network.devices(data=data.plan(), least=2, deadline=120.0)
            with hansa.runtime(network):
                try:
                    for _ in range(2):
                        found, _ = process.next(found, clients)
                except hansa.AbandonedError:
                    pytest.fail(str([each["reason"] for each in network.outcomes()]))
            outcomes = [(each["outcome"], each["reason"]) for each in network.outcomes()]
    finally:
        for each in devices:
            each.terminate()
        for each in devices:
            each.wait(60)
    assert outcomes == [("counted", None)] * 4
    expected = process.initialize()
    for _ in range(2):
        expected, _ = process.next(expected, data.cohort([0, 1]))
    assert_same_bits(found, expected)
