"""How the command starts: help without what is slow, completion in shells, and Ctrl-C at any moment."""

import subprocess
import sys
import textwrap
from pathlib import Path

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
    result = subprocess.run([*HANSA, "demo", "--rounds", "0"], capture_output=True, text=True)
    assert result.returncode == 2
    assert "--rounds" in result.stderr
