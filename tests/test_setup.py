"""What importing Hansa decides, seen from new processes."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def run(program, **environment):
    env = {k: v for k, v in os.environ.items() if k not in ("KERAS_BACKEND", "XLA_FLAGS")} | environment
    return subprocess.run(
        [sys.executable, "-W", "always::UserWarning", "-c", textwrap.dedent(program)],
        env=env,
        capture_output=True,
        text=True,
    )


def test_keras_runs_on_jax_and_jax_has_a_device_per_core():
    done = run("""
        import importlib.util, os, hansa, jax, keras, sys
        assert keras.backend.backend() == "jax"
        assert len(jax.devices()) == len(os.sched_getaffinity(0))
        assert jax.config.jax_compilation_cache_dir.endswith("xla")
        plugins = importlib.util.find_spec("jax_plugins") is not None
        assert plugins or "--xla_backend_optimization_level=2" in os.environ["XLA_FLAGS"].split()
    """)
    assert done.returncode == 0, done.stderr


def test_weights_are_drawn_as_without_hansa():
    draw = """
        import jax, numpy as np
        draws = [
            jax.random.uniform(jax.random.key(1), (512, 10), minval=-0.1, maxval=0.1),
            jax.random.truncated_normal(jax.random.key(2), -2.0, 2.0, (3, 3, 16, 32)) * 0.05,
        ]
        print([np.asarray(draw).tobytes().hex() for draw in draws])
    """
    plain, with_hansa = run(draw), run("import hansa\n" + textwrap.dedent(draw))
    assert plain.returncode == 0, plain.stderr
    assert plain.stdout == with_hansa.stdout


def test_the_users_choices_are_kept():
    done = run(
        """
        import jax, os
        jax.config.update("jax_compilation_cache_dir", "/nowhere")
        import hansa
        assert len(jax.devices()) == 3
        assert jax.config.jax_compilation_cache_dir == "/nowhere"
        assert os.environ["XLA_FLAGS"].count("optimization_level") == 1
        """,
        XLA_FLAGS="--xla_force_host_platform_device_count=3 --xla_backend_optimization_level=1",
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("flags", ["", "  ", "--xla_cpu_enable_fast_math=false", "flags.txt"])
def test_flags_of_the_user_stay(flags, tmp_path):
    """A value that does not begin with a hyphen names a file of flags, to which nothing can be added."""
    (tmp_path / "flags.txt").write_text("--xla_force_host_platform_device_count=3")
    flags = str(tmp_path / flags) if flags.endswith("txt") else flags
    done = run("import hansa, jax, os; jax.devices(); print(os.environ['XLA_FLAGS'])", XLA_FLAGS=flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(flags.strip())


def test_a_jax_that_has_started_is_used_as_it_is_and_that_is_said_once():
    done = run("""
        import jax
        jax.config.update("jax_num_cpu_devices", 1)
        jax.devices()
        import hansa, numpy as np
        double = hansa.jax_computation(lambda x: 2 * x, np.float32)
        assert double(3.0) == 6 and double(4.0) == 8
    """)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("import hansa before JAX is used") == (1 if len(os.sched_getaffinity(0)) > 1 else 0)


def test_importing_hansa_imports_neither_keras_nor_tensorflow():
    done = run("""
        import hansa, sys
        hansa.learning.build_federated_averaging_process, hansa.simulation.load_mnist, hansa.utils.IterativeProcess
        assert not {"keras", "tensorflow", "matplotlib", "sklearn"} & set(sys.modules)
    """)
    assert done.returncode == 0, done.stderr


def test_keras_on_another_backend_is_refused_with_the_remedy():
    done = run(
        """
        import hansa, keras, numpy as np
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(loss="mse")
        keras.backend.backend = lambda: "torch"
        sample = dict(x=np.zeros((1, 3), "float32"), y=np.zeros((1, 1), "float32"))
        hansa.learning.from_compiled_keras_model(model, sample)
        """
    )
    assert done.returncode != 0
    assert "Keras runs on its 'torch' backend" in done.stderr
    assert "KERAS_BACKEND=jax" in done.stderr


@pytest.mark.slow
def test_tf_keras_and_tf_data_work_when_keras_runs_on_jax():
    pytest.importorskip("tensorflow")
    done = run("""
        import hansa, numpy as np, tensorflow as tf
        x, y = np.arange(21, dtype="float32").reshape(7, 3) / 21, np.ones((7, 1), "float32")

        def model_fn():
            model = tf.keras.Sequential([tf.keras.Input((3,)), tf.keras.layers.Dense(1, kernel_initializer="ones")])
            model.compile(loss=tf.keras.losses.MeanSquaredError(), optimizer=tf.keras.optimizers.SGD(0.1))
            return hansa.learning.from_compiled_keras_model(model, dict(x=x[:2], y=y[:2]))

        process = hansa.learning.build_federated_averaging_process(model_fn)
        dataset = tf.data.Dataset.from_tensor_slices(dict(x=x, y=y)).batch(2)
        lists = [dict(x=x[i : i + 2], y=y[i : i + 2]) for i in range(0, 7, 2)]
        arrays = hansa.Batches(dict(x=x, y=y), 2)
        results = [process.next(process.initialize(), [data]) for data in (dataset, lists, iter(lists), arrays)]
        kernels = [np.asarray(state.model.trainable["dense/kernel"]) for state, _ in results]
        assert all(np.array_equal(kernel, kernels[0]) for kernel in kernels)
        assert len({metrics.loss for _, metrics in results}) == 1
        keras_model = tf.keras.Sequential([tf.keras.Input((3,)), tf.keras.layers.Dense(1)])
        results[0].state.model.assign_weights_to(keras_model)
        assert np.array_equal(keras_model.layers[0].kernel, kernels[0])
    """)
    assert done.returncode == 0, done.stderr


NO_HOME = """
    import os, pwd
    for name in ("HOME", "HANSA_CACHE_DIR", "XDG_CACHE_HOME"):
        os.environ.pop(name, None)

    def nobody(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    pwd.getpwuid = nobody
"""
CACHED = """
    import hansa, jax, numpy as np, warnings
    from hansa._cache import cache_dir
    warnings.simplefilter("error")
    assert hansa.jax_computation(lambda x: 2 * x, np.float32)(3.0) == 6
    assert jax.config.jax_compilation_cache_dir is None
    (cache_dir() / "something").write_text("kept while the process runs")
    print(cache_dir())
"""


@pytest.mark.parametrize("reason", ["no home", "a file in the way", "a folder that cannot be made"])
def test_without_a_lasting_cache_there_is_one_for_the_process(reason, tmp_path):
    if reason == "no home":
        pytest.importorskip("pwd")
        done = run(textwrap.dedent(NO_HOME) + textwrap.dedent(CACHED), TMPDIR=str(tmp_path))
    else:
        (tmp_path / "file").touch()
        there = tmp_path / "file" if reason == "a file in the way" else tmp_path / "file" / "hansa"
        done = run(CACHED, HANSA_CACHE_DIR=str(there), TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert folder.parent == tmp_path and folder.name.startswith("hansa-cache-")
    assert not folder.exists()


def test_the_doctor_says_why_nothing_is_kept(tmp_path):
    pytest.importorskip("pwd")
    doctor = "from hansa.cli._doctor import _cache\nprint(_cache())"
    done = run(textwrap.dedent(NO_HOME) + doctor)
    assert "there is no home folder; name a folder that lasts: HANSA_CACHE_DIR" in done.stdout, done.stderr
    (tmp_path / "file").touch()
    done = run(doctor, HANSA_CACHE_DIR=str(tmp_path / "file"))
    assert "cannot be written; name another: HANSA_CACHE_DIR" in done.stdout, done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the GNU C library is that of Linux")
@pytest.mark.parametrize("chosen", [False, True])
def test_large_blocks_come_of_memory_that_stays_unless_the_user_has_chosen(chosen):
    program = """
        import ctypes, hansa, jax, numpy as np
        class Mallinfo(ctypes.Structure):
            _fields_ = [(f"f{i}", ctypes.c_size_t) for i in range(10)]
        mallinfo = ctypes.CDLL(None).mallinfo2
        mallinfo.restype = Mallinfo
        before = mallinfo().f4  # bytes in blocks that are the system's
        block = np.empty(2**26, np.uint8)
        print(mallinfo().f4 - before >= 2**26)
    """
    done = run(program, **({"MALLOC_MMAP_THRESHOLD_": str(2**20)} if chosen else {}))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{chosen}\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the GNU C library is that of Linux")
@pytest.mark.parametrize("chosen", [False, True])
def test_much_free_memory_is_given_back_before_a_program_is_compiled_unless_the_user_has_chosen(chosen):
    program = """
        import hansa, jax, numpy as np
        from hansa._memory import give_back
        def resident():
            return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) >> 10
        def freed():  # with a small block behind them, as the end of the heap may be given back by itself
            blocks = [np.full(2**25, 1, np.uint8) for _ in range(8)]
            return np.ones(2**15, np.uint8)
        freed()
        give_back()
        start, kept = resident(), freed()
        held = resident() - start
        again = give_back()
        print(again, held > 200 and resident() - start < 60)
    """
    done = run(program, **({"MALLOC_TRIM_THRESHOLD_": str(2**40)} if chosen else {}))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == str(not chosen)
    assert chosen or done.stdout == "True True\n"
