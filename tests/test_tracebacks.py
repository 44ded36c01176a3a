"""What is seen of an error, in a script, a notebook and pytest: the message and the user's lines."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import json
import os
import pickle
import subprocess
import sys
import textwrap
import timeit
import traceback
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import hansa
from hansa import _tracebacks
from hansa._tracebacks import boundary, is_boundary
from hansa.cli._output import errors_of
from hansa.cli._user_code import load
from hansa.cli.config.checking import Function

PACKAGES = ["hansa", *(f"hansa.{part}" for part in hansa._PARTS)]


def public() -> dict[str, object]:
    return {
        f"{package}.{name}": getattr(importlib.import_module(package), name)
        for package in PACKAGES
        for name in dir(importlib.import_module(package))
    }


def test_what_is_public_is_a_boundary():
    # A boundary is around these: values while a computation is traced, and models, which others call.
    within = {"hansa.Value", "hansa.Struct", "hansa.learning.Model", "hansa.learning.TrainableModel"}
    for path, value in public().items():
        if inspect.isfunction(value):
            assert is_boundary(value), path
            assert value.__globals__["__name__"] == value.__module__, path
        elif inspect.isclass(value) and path not in within:
            own = [
                member
                for name, member in vars(value).items()
                if inspect.isfunction(member) and (not name.startswith("_") or name == "__call__")
            ]
            plain = issubclass(value, hansa.Type | BaseException | tuple | enum.Enum)
            assert plain or getattr(value, "_is_protocol", False) or all(map(is_boundary, own)), path


def told(error: BaseException) -> list[str]:
    """What Python prints of an error."""
    return "".join(traceback.format_exception(error)).splitlines()


@pytest.fixture
def folding(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_tracebacks, "folding", True)
    monkeypatch.delenv("HANSA_TRACEBACK", raising=False)


def loss(x):
    return jnp.dot(x, jnp.ones(7))  # the line of the user's function


def map_wrongly(readings):
    return hansa.federated_sum(readings.first)  # the line of the user's composition


MISTAKES = {
    "ClientData": (lambda: hansa.simulation.ClientData.from_arrays({"x": [1, 2]}, [0, 1]).batch(0), []),
    "sampler": (lambda: hansa.simulation.UniformSampler(0, 3), []),
    "runtime": (lambda: hansa.set_runtime(3), []),
    "jax": (lambda: hansa.jax_computation(loss, "float32[3]"), ["in loss", "jnp.dot"]),
    "graph": (lambda: hansa.federated_computation("{float32}@CLIENTS")(map_wrongly), ["in map_wrongly", ".first"]),
    "call": (lambda: hansa.jax_computation(lambda x: x + 1, "float32[2]")([1.0, 2.0, 3.0]), []),
    "polymorphic": (lambda: hansa.jax_computation(loss)(np.ones(3, "float32")), ["in loss", "jnp.dot"]),
    "process": (lambda: hansa.templates.IterativeProcess(1, 2), []),
    "train": (lambda: hansa.program.train(1, 2, rounds=3), []),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_error_shows_the_message_and_the_users_lines(mistake: str, folding: None):
    function, inner = MISTAKES[mistake]
    with pytest.raises((TypeError, ValueError, AttributeError)) as raised:
        function()
    lines = told(raised.value)
    files = [line for line in lines if line.startswith("  File ")]
    assert all(str(Path(__file__)) in line for line in files), lines
    assert len(files) == 2 + bool(inner)  # this test, the function that makes the mistake, and what that hands over
    for text in inner:
        assert text in "\n".join(lines[-6:])
    for text in ("During handling", "direct cause", "JAX has removed"):
        assert text not in str(lines)
    assert len(lines) <= 12


def test_a_user_who_wants_to_see_all_sees_all(folding: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HANSA_TRACEBACK", "1")
    with pytest.raises(TypeError) as raised:
        hansa.program.train(1, 2, rounds=3)
    assert any("hansa/program" in line.replace(os.sep, "/") for line in told(raised.value))


def test_an_error_that_hansa_does_not_raise_itself_says_how_to_see_where_it_came_from(folding: None):
    namespace = {"__name__": "hansa.made_up", "json": json}
    exec("def careless(): return json.loads('{')", namespace)
    with pytest.raises(json.JSONDecodeError) as raised:
        boundary(namespace["careless"])()
    assert [line for line in told(raised.value) if line.startswith("  File ")] == told(raised.value)[1:2]
    assert told(raised.value)[-1] == "(HANSA_TRACEBACK=1 shows the frames that are left out.)"


def test_an_error_in_a_function_of_the_users_keeps_what_that_calls_and_its_cause(folding: None):
    def read():
        try:
            return json.loads("{")
        except ValueError as error:
            raise RuntimeError("no such client") from error

    data = hansa.simulation.ClientData.from_function([1], lambda client_id: read())
    with pytest.raises(RuntimeError, match="no such client") as raised:
        data.client(1)
    lines = "\n".join(told(raised.value))
    assert "in read" in lines and "json" in lines and "direct cause" in lines and "hansa/simulation" not in lines


def test_an_error_that_lets_nobody_set_anything_is_the_one_that_is_seen(folding: None):
    @dataclasses.dataclass(frozen=True)
    class Late(Exception):
        by: int

    def load(arrays):
        raise Late(3)

    with pytest.raises(Late) as raised:
        hansa.simulation.ClientData.from_clients({1: {"x": np.zeros(3)}}).map(load).client(1)
    assert raised.value.by == 3 and "hansa/simulation" not in "".join(told(raised.value))
    made = {"__name__": "hansa.made_up", "json": json, "error": Late(4)}
    exec("def careless(): json.loads('1', parse_int=fail)\ndef fail(text): raise error", made)
    made["error"].__dict__["__notes__"] = ["of the user"]
    with pytest.raises(Late) as raised:
        boundary(made["careless"])()
    assert raised.value.__notes__[0] == "of the user"


def test_a_boundary_looks_like_the_function_and_costs_no_more_than_a_call():
    def add(a: int, b: int = 2) -> int:
        """Adds."""
        return a + b

    made = boundary(add)
    assert made(1) == 3 and made(1, b=4) == 5
    assert inspect.signature(made) == inspect.signature(add) and made.__doc__ == "Adds."
    assert inspect.getsource(made) == inspect.getsource(add)
    assert pickle.loads(pickle.dumps(hansa.program.train)) is hansa.program.train
    assert min(timeit.repeat(lambda: made(1), number=1000, repeat=5)) / 1000 < 5e-6


def test_warnings_are_at_the_users_line():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": [1.0, 2.0], "user": [1, -1]})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        hansa.simulation.from_frame(frame, "user")
    assert [Path(each.filename).name for each in caught] == [Path(__file__).name]


SCRIPT = """
    import hansa
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell(colors="NoColor")
    shell.run_cell("import hansa\\nhansa.simulation.UniformSampler(0, 3)")
    hansa.simulation.UniformSampler(0, 3)
"""


def test_a_script_and_a_notebook_show_the_users_line_only(tmp_path: Path):
    pytest.importorskip("IPython")
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    environment = {name: value for name, value in os.environ.items() if name != "HANSA_TRACEBACK"}
    ran = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 1
    lines = ran.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "script.py" in lines[1] and "UniformSampler(0, 3)" in lines[2]
    assert lines[-1].startswith("ValueError: ") and len(lines) <= 5
    assert "hansa.simulation.UniformSampler(0, 3)" in ran.stdout and "samplers.py" not in ran.stdout
    assert len(ran.stdout.splitlines()) < 12


def test_the_command_line_shows_the_users_lines_of_any_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "faulty_model.py"
    file.write_text("def loss(x):\n    return {}[x]  # here\n")
    loss = load(Function(file, "loss"))
    with pytest.raises(SystemExit) as ended, errors_of("train", as_json=True):
        hansa.jax_computation(lambda x: loss(3), "int32")
    assert ended.value.code == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-2:] == ["  KeyError: 3", "  (HANSA_TRACEBACK=1 shows all that led to it)"]
    assert f"{file}, line 2, in loss: return {{}}[x]  # here\n" in printed.err
    assert "site-packages" not in printed.err and "hansa/language" not in printed.err
    assert json.loads(printed.out) == {"error": "KeyError: 3", "exit_code": 1}
    monkeypatch.setenv("HANSA_TRACEBACK", "1")
    with pytest.raises(KeyError), errors_of("train", as_json=False):
        loss(3)
