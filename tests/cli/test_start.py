"""How the command starts: help without what is slow, completion in shells, and Ctrl-C at any moment."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from hansa.cli._commands import app

HANSA = [sys.executable, "-m", "hansa.cli"]


def test_help_teaches_where_to_begin_and_what_is_quick_imports_nothing_slow(tmp_path: Path):
    """In one process, where the commands run one after another."""
    (tmp_path / "run.json").write_text('{"asked": {}, "rounds": 2}')
    (tmp_path / "metrics.jsonl").write_text('{"round": 1, "loss": 2.5}\n')
    program = """
        import contextlib, io, sys
        from hansa.cli._commands import app

        def said(*arguments):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                assert not app.main(arguments, prog_name="hansa", standalone_mode=False)
            return out.getvalue()

        def imported(*names):
            return {*names} & {*sys.modules}

        folder = sys.argv[1]
        everything = said("--help")
        assert everything == said() == said("-h")
        assert "hansa demo --data mnist" in everything and "import hansa" in everything
        assert said("--version").split()[0] == "hansa" and said("--version").split()[1][0].isdigit()
        for name in app.commands:
            assert f"Usage: hansa {name} " in said(name, "--help")
        assert not imported("jax", "keras", "numpy", "rich", "tomllib", "hansa.program")
        assert "killed" in said("runs", folder) and "loss 2.5" in said("runs", folder)
        assert not imported("jax", "keras", "numpy")
        assert said("report", folder).strip() == f"{folder}/report.html"
        assert not imported("jax", "keras", "matplotlib")
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(program), tmp_path], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_wrong_option_is_a_usage_error():
    for value, why in (("0", "0 is not in the range x>=1."), ("1.5", "'1.5' is not a valid integer.")):
        result = subprocess.run([*HANSA, "demo", "--rounds", value], capture_output=True, text=True)
        assert result.returncode == 2
        assert f"Invalid value for '--rounds': {why}" in result.stderr


def test_a_shell_is_told_what_can_stand_where_the_cursor_is(tmp_path: Path, monkeypatch):
    for run in ("first/runs/one", "first/runs/two"):
        (tmp_path / run / "deep").mkdir(parents=True)
        (tmp_path / run / "run.json").write_text("{}")
        (tmp_path / run / "deep" / "other.toml").touch()  # too deep
    (tmp_path / "first" / "run.toml").touch()
    monkeypatch.chdir(tmp_path)

    def asked(line: str, shell: str = "bash", **environment: str) -> list[str]:
        """By the protocol of Click's scripts, which put the words and the cursor into the environment."""
        words = {"_HANSA_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        done = subprocess.run(HANSA, env={**os.environ, **words, **environment}, capture_output=True, text=True)
        assert done.stderr == ""
        return done.stdout.split()

    assert asked("hansa report ") == ["plain,first/runs/one", "plain,first/runs/two"]
    assert asked("hansa train ", "fish", COMP_CWORD="") == ["plain,first/run.toml"]

    def completed(line: str) -> list[str]:
        *words, typed = line.split(" ")
        return [item.value for item in ShellComplete(app, {}, "hansa", "").get_completions(words, typed)]

    assert completed("re") == ["resume", "report"]
    assert completed(f"resume {tmp_path}/first/runs/t") == [f"{tmp_path}/first/runs/two"]
    assert completed("evaluate elsewhere/") == ["elsewhere/"]
    assert completed("data ")[:2] == ["digits", "mnist"]
    assert completed("data f") == ["fashion_mnist", "first/run.toml"]
    assert completed("train first/run.toml --set training.ro") == ["training.rounds="]
    assert completed("evaluate --on ev") == ["evaluation"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_once_and_the_users_files_stay(shell, tmp_path, monkeypatch):
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    start = tmp_path / f".{shell}rc"
    start.write_text("alias l=ls")
    for _ in range(2):
        said = CliRunner().invoke(app, ["--install-completion"], catch_exceptions=False)
        assert said.exit_code == 0
    script = Path(said.output.split()[0])
    assert "_HANSA_COMPLETE" in script.read_text() and tmp_path in script.parents
    first, *lines = start.read_text().splitlines()
    assert first == "alias l=ls" and len(lines) == (0 if shell == "fish" else 1)
    shown = CliRunner().invoke(app, ["--show-completion", shell])
    assert shown.output == script.read_text()
    if shell == "bash":
        read = subprocess.run(["bash", "--norc", "-c", f". {start}; complete -p hansa"], capture_output=True, text=True)
        assert "_hansa_completion" in read.stdout


def test_the_shell_is_to_be_named_where_it_is_not_known(monkeypatch):
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    said = CliRunner().invoke(app, ["--show-completion"])
    assert said.exit_code == 2 and "bash, zsh, fish" in said.output


MOMENTS = {
    "in an import that goes on whatever is raised": """
        import other
    """,
    "in what cannot be interrupted": """
        import ctypes, os

        mutex, library = ctypes.create_string_buffer(256), ctypes.CDLL(None)
        library.pthread_mutex_lock(mutex)
        library.pthread_mutex_lock(mutex)
    """,
    "in a finaliser, where errors are lost": """
        import time

        class Closing:
            def __del__(self):
                time.sleep(100)

        Closing()
        time.sleep(100)
    """,
    "in the user's code": """
        import time

        time.sleep(100)
    """,
}
OTHER = """
import time

try:
    time.sleep(100)
except:
    pass
time.sleep(100)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent to processes")
@pytest.mark.slow
def test_ctrl_c_ends_a_command_wherever_it_is_with_a_line_and_130(tmp_path: Path):
    (tmp_path / "other.py").write_text(OTHER)
    started = {}
    for number, (moment, code) in enumerate(MOMENTS.items()):
        code = f"open(__file__ + '.here', 'w').close()\n{textwrap.dedent(code)}\ndef load(): ...\n"
        (tmp_path / f"data{number}.py").write_text(code)
        (tmp_path / f"run{number}.toml").write_text(
            f'[model]\nname = "linear"\n[data]\nfunction = "data{number}.py:load"\n[training]\nrounds = 1\n'
        )
        command = [*HANSA, "data", tmp_path / f"run{number}.toml"]
        # A shell may have started the tests with Ctrl-C ignored.
        started[moment] = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
        )
    told = {}
    for number, (moment, process) in enumerate(started.items()):
        end = time.monotonic() + 60
        while not (tmp_path / f"data{number}.py.here").exists() and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        told[moment] = (process.communicate(timeout=20)[1], process.returncode)
    assert told == dict.fromkeys(MOMENTS, ("hansa data: interrupted\n", 130))


@pytest.mark.parametrize("moment", ["hansa", "hansa._lazy", "hansa.cli", "hansa.cli._commands", "click", "signal"])
def test_ctrl_c_ends_the_command_while_it_is_imported(moment: str):
    finder = f"""
import os, signal, sys
for name in [name for name in sys.modules if name == {moment!r}]:
    del sys.modules[name]
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {moment!r}:
            os.kill(os.getpid(), 2)
sys.meta_path.insert(0, Finder())
signal.signal(2, signal.default_int_handler)
sys.argv = ["hansa", "--help"]
"""
    ended = subprocess.run(
        [sys.executable, "-c", finder + "import hansa_command; hansa_command.main()"], capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "hansa: interrupted\n")


def test_ctrl_c_after_a_command_is_no_matter():
    late = """
import os, signal, sys
class Last:
    def __del__(self):
        os.kill(os.getpid(), 2)
signal.signal(2, signal.default_int_handler)
sys.last = Last()  # goes when Python ends, after what is registered for the end
sys.argv = ["hansa", "--version"]
"""
    ended = subprocess.run(
        [sys.executable, "-c", late + "import hansa_command; hansa_command.main()"], capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (0, "") and ended.stdout
