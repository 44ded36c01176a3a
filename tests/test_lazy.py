"""Names that are imported when they are used, and JAX that is set up when it is."""

import ast
import importlib
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import hansa

LAZY = ["hansa", *(f"hansa.{part}" for part in hansa._PARTS), "hansa.aggregators.codecs", "hansa.models"]


@pytest.mark.parametrize("package", LAZY)
def test_editors_are_told_the_names_that_python_finds(package):
    module = importlib.import_module(package)
    tree = ast.parse(Path(module.__file__).read_text("utf-8"))
    told = {}
    for block in (node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
        for node in (node for node in block.body if isinstance(node, ast.ImportFrom)):
            told |= {alias.asname: f"{node.module}.{alias.name}" for alias in node.names}
    found = {name: f"{home}.{name}" for home, names in module._HOMES.items() for name in names}
    found |= {name: f"{package}.{name}" for name in getattr(module, "_PARTS", ())}
    assert told == found
    assert sorted(found) == dir(module) == module.__all__
    assert not any(name.startswith("_") for name in found)
    for name, place in found.items():
        home = importlib.import_module(place.rpartition(".")[0])
        assert getattr(module, name) is getattr(home, name)


def run(program):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_and_asking_for_what_is_not_there_import_no_jax_and_jax_is_set_up_when_it_is_imported():
    run("""
        import importlib.util, inspect, os, pickle, sys
        import hansa
        assert os.environ["KERAS_BACKEND"] == "jax"
        assert not hasattr(hansa, "none_such") and not hasattr(hansa, "__wrapped__") and "Struct" in dir(hansa)
        assert pickle.whichmodule(object(), "none_such")
        found = importlib.util.find_spec("jax")
        assert found.name == "jax" and found.loader.get_filename("jax") == found.origin
        assert not {"jax", "jaxlib", "numpy", "keras"} & set(sys.modules)
        import keras, jax
        assert inspect.getsource(jax) and type(jax.__loader__).__module__ == "_frozen_importlib_external"
        assert jax.__spec__.loader is jax.__loader__
        assert len(jax.devices()) == len(os.sched_getaffinity(0))
        assert keras.backend.backend() == "jax"
        from hansa import *
        assert federated_computation is hansa.federated_computation and simulation is hansa.simulation
    """)
