"""Runs' TOML files and `--set`, mutated: each is accepted, or a `ConfigError`."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from hansa.cli.config import ConfigError, read_config, restore_config, stored
from tests.fuzzing.pool import fuzz

RUN = """
[model]
name = "mlp"
options = { hidden = [16, 8], nested = { a = 1.5, b = true } }
[data]
name = "digits"
partition = { method = "dirichlet", clients = 10, alpha = 0.5, seed = 3 }
held_out = 0.2
held_out_by = "clients"
batch_size = 16
[training]
rounds = 20
cohort_size = 4
server_optimizer = { name = "sgd", learning_rate = 1, options = { momentum = 0.9 } }
early_stopping = { monitor = "evaluation/loss", patience = 3 }
[output]
folder = "runs/one"
sinks = ["tensorboard"]
"""
VALUES = [
    *("0", "-1", "1", "true", '""', '"x"', "[]", "{}", "nan", "-inf", "1e999", "1e-999", "0x7fffffffffffffff", "0o7"),
    *("9" * 19, "9" * 40, "9" * 4301, "0x" + "f" * 6000, "1" + "_0" * 300 + ".0", "1979-05-27", "07:32:00"),
    *('"~nobody/x"', '"~"', '"../../x:f"', '"' + "a" * 5000 + '"', '"\\u0000"', '"\\u001b[2J"', '"\\U0010ffff"', "''"),
    *("[" * 30 + "]" * 30, "[" * 2000 + "]" * 2000, "{a=" * 35 + "1" + "}" * 35, "[1, 'x', {a = []}]", '"""\n\n"""'),
]
KEYS = [
    "model",
    "data",
    "training",
    "output",
    "seed",
    "options",
    "x",
    "a.b.c",
    "a." * 40 + "a",
    "a." * 5000 + "a",
    '""',
]
BYTES = [b"\0", b"\xff", b"\xc3", b"\x1b[0m", b"\n", b"\r", b'"', b"'", b"[", b"]", b"{", b"}", b"=", b"#", b".", b"\\"]


def mutated(text: str, random: Random) -> bytes:
    """A text with some of its values, keys, lines or bytes changed."""
    lines = text.splitlines()
    for _ in range(random.randrange(1, 4)):
        place = random.randrange(len(lines))
        key, equals, _ = lines[place].partition("=")
        what = random.randrange(6)
        if what == 0 and equals:
            lines[place] = f"{key}= {random.choice(VALUES)}"
        elif what == 1:
            lines.insert(place, f"{random.choice(KEYS)} = {random.choice(VALUES)}")
        elif what == 2:
            lines.insert(place, random.choice(lines))
        elif what == 3:
            lines.pop(place)
            lines.append("")
        elif what == 4:
            lines.insert(place, f"[{random.choice(KEYS)}]")
        else:
            lines[place] = lines[place].replace(random.choice(["1", '"', "=", "{", "a"]), random.choice(VALUES), 1)
    content = bytearray("\n".join(lines).encode())
    for _ in range(random.choice([0, 0, 1, 3])):
        place = random.randrange(len(content))
        content[place : place + random.randrange(3)] = random.choice(BYTES)
    return bytes(content)


def attempt(random: Random, folder: Path) -> str:
    path = folder / "run.toml"
    path.write_bytes(mutated(RUN, random) if random.randrange(4) else RUN.encode())
    overrides = [f"{random.choice(KEYS)}={random.choice(VALUES)}" for _ in range(random.choice([0, 0, 1, 2]))]
    overrides += [f"training.rounds={random.choice(VALUES)}"] if random.randrange(4) == 0 else []
    try:
        config = read_config(path, overrides)
        assert restore_config(stored(config), path) == config
    except ConfigError as error:
        told = str(error)
        assert str(path) in told or "--set" in told
        assert len(told) < 25_000
        assert all(character.isprintable() or character == "\n" for character in told.replace(str(path), ""))
        return "refused"
    return "accepted"


def test_a_few_files_are_accepted_or_refused():
    outcomes = fuzz(attempt, 200, seconds=20, memory=1 << 30)
    assert set(outcomes) == {"accepted", "refused"}


@pytest.mark.parametrize(
    "inputs", [pytest.param(1500, marks=pytest.mark.slow), pytest.param(6500, marks=pytest.mark.whole)]
)
def test_many_files_are_accepted_or_refused(inputs: int):
    assert fuzz(attempt, inputs, seed=1, processes=2, seconds=20, memory=1 << 30).total() == inputs
