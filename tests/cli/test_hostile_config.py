"""Whatever is in a TOML file or in `--set`, what is wrong with it is a `ConfigError`, soon and in plain characters."""

import time
from pathlib import Path

import pytest

from hansa.cli.config import ConfigError, read_config, restore_config, stored

RUN = """
[model]
name = "linear"
[data]
name = "digits"
partition = { method = "iid", clients = 3 }
[training]
rounds = 2
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run.toml").write_text(RUN)
    return tmp_path / "run.toml"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (RUN.replace("rounds = 2", "rounds = " + "9" * 5000), "it is no TOML: Exceeds the limit"),
        (RUN.replace("rounds = 2", "rounds = 0x" + "f" * 5000), "training.rounds is an integer of 20000 bits"),
        (RUN + f"seed = {2**63}", "training.seed is an integer of 64 bits"),
        (RUN.replace('"digits"', '"digits"\nheld_out = 1' + "0" * 400), "data.held_out is an integer of 1329 bits"),
        (RUN.replace('"digits"', '"digits"\nheld_out = nan'), "data.held_out = nan: expected a number from 0 to"),
        (
            RUN.replace('name = "linear"', 'name = "linear"\noptions = { a = nan }'),
            "options.a = nan: expected a number, or a string",
        ),
        (RUN.replace('"digits"', '"digits"\nheld_out = inf'), "data.held_out = inf: expected a number from 0 to"),
        (RUN + "x = " + "[" * 3000 + "]" * 3000, "nested more than 32 deep"),
        (RUN + "x = " + "[" * 40 + "]" * 40, "nested more than 32 deep"),
        (RUN + "x = " + "{a = " * 400 + "1" + "}" * 400, "nested more than 32 deep"),
        (RUN + "a." * 40 + "a = 1", "nested more than 32 deep"),
        (RUN + "a." * 100_000 + "a = 1", "line 9 has more than 1000 dots"),
        (RUN + "#" * 300_000, "it is longer than 256 KiB"),
        (
            RUN + '[output]\nfolder = "~nobodyatall/x"',
            "output.folder = .*: it cannot be looked up: Could not",
        ),
        (RUN + f'[output]\nfolder = "{"x" * 300}"', "output.folder = .*: it cannot be looked up: File name too long"),
        (RUN + '[output]\nfolder = "a\\u0000b"', "output.folder has a character that no text has: NUL"),
        (RUN.replace('name = "linear"', f'function = "{"x" * 300}:f"'), "model.function = .*: it cannot be looked up"),
        (RUN.replace('name = "linear"', 'name = "linear"\noptions = { a = 1979-05-27 }'), "options.a is a date"),
        (RUN + "\\u001b = 1", "it is no TOML"),
        ("\ufeff" + RUN, "it is no TOML"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_too_much_for_a_file_is_said(run: Path, text: str, why: str):
    run.write_text(text)
    begin = time.process_time()
    with pytest.raises(ConfigError, match=why) as caught:
        read_config(run)
    assert time.process_time() - begin < 2
    assert len(str(caught.value)) < 3000


def test_what_is_no_text_is_said(run: Path):
    for content in (b"\xff\xfe", RUN.encode("utf-16"), b"\0"):
        run.write_bytes(content)
        with pytest.raises(ConfigError, match="it is no TOML"):
            read_config(run)
    run.unlink()
    run.mkdir()
    for folder, told in ((run, "there is no .* in it; `hansa new"), (run.parent, "it cannot be read: Is a directory")):
        with pytest.raises(ConfigError, match=told):
            read_config(folder)
    with pytest.raises(ConfigError, match="it is longer than 256 KiB"):
        read_config(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("training.seed=" + "9" * 5000, "training.seed: Exceeds the limit"),
        ("training.seed=" + "9" * 4000, "training.seed is an integer of"),
        ("x=" + "[" * 3000, "x: it is nested more than 32 deep"),
        ("training.rounds=" + "[" * 20, "training.rounds = .*: expected an integer"),
        ("a." * 40 + "a=1", "nested more than 32 deep"),
        ("training.rounds=1\n[data]\nname='mnist'", "training.rounds = (.|\n)*: expected an integer"),
        ("output.folder=~nobodyatall", "it cannot be looked up"),
        ("output.folder=\udcff", "a byte that is no UTF-8"),
        (f"training.rounds={2**53}", "training.rounds = 9007199254740992: expected less than 9007199254740992"),
        (f"training.evaluate_every={2**60}", "training.evaluate_every = .*: expected less than 9007199254740992"),
        ("training.rounds=nan", "training.rounds = nan: expected an integer"),
        ("training.rounds=" + "1" * 300_000, "it is longer than 256 KiB"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_too_much_for_a_key_is_said(run: Path, override: str, why: str):
    with pytest.raises(ConfigError, match=why) as caught:
        read_config(run, [override])
    assert len(str(caught.value)) < 3000


def test_messages_do_nothing_to_the_terminal(run: Path):
    run.write_text(RUN.replace('"linear"', '"\\u001b]0;title\\u0007\\u202e"') + '\n"\\u001b[2J" = 1')
    with pytest.raises(ConfigError) as caught:
        read_config(run)
    assert all(character.isprintable() or character == "\n" for character in str(caught.value))
    assert r"\x1b[2J" in str(caught.value)


def test_what_a_run_has_kept_is_checked_as_a_file_is(run: Path):
    kept = stored(read_config(run))
    assert restore_config(kept, "run.json") == read_config(run)
    kept["training"]["seed"] = 10**400
    with pytest.raises(ConfigError, match=r"training\.seed is an integer of 1329 bits"):
        restore_config(kept, "run.json")
