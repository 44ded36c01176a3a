"""The project of `hansa new --task instruction`: a base, adapters that clients train, and files without Hansa."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hansa.cli._commands import app


def ran(folder: Path, *arguments: str) -> str:
    result = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_it_runs_as_it_is(tmp_path: Path):
    from safetensors.numpy import load_file

    said = ran(tmp_path, "-m", "hansa.cli", "new", "answers", "--task", "instruction")
    assert "pretrain.py makes the base, and hansa train answers/run.toml runs it." in said
    folder = tmp_path / "answers"
    missing = subprocess.run([sys.executable, "-m", "hansa.cli", "explain", folder], capture_output=True, text=True)
    assert missing.returncode and "python pretrain.py makes it" in missing.stderr
    ran(folder, "pretrain.py")
    ran(folder, "-m", "hansa.cli", "train", "run.toml")
    *_, last = (json.loads(line) for line in (folder / "runs/first/metrics.jsonl").read_text().splitlines())
    assert last["round"] == 40 and last["evaluation/exact_match"] > 0.9 and last["evaluation/perplexity"] < 1.3
    said = ran(folder, "export.py", "runs/first")
    assert "base: ROUGE-L 0.0" in said and "count 3 down from n7 : n6 n5 n4 <end>" in said
    trained = next(line for line in said.splitlines() if line.startswith("trained"))
    assert float(trained.split()[-1]) > 0.9
    # The merged kernel is the base and the product that is in the two files.
    adapters = load_file(folder / "adapters/adapter_model.safetensors")
    config = json.loads((folder / "adapters/adapter_config.json").read_text())
    a, b = (adapters[f"base_model.model.scores.lora_{of}.weight"] for of in "AB")
    program = (
        "import keras, numpy; numpy.save('kernel', keras.models.load_model('merged.keras').get_layer('scores').kernel)"
    )
    base = "import model, numpy; numpy.save('base', model.pretrained().get_layer('scores').kernel)"
    ran(folder, "-c", "import hansa;" + program)
    ran(folder, "-c", "import hansa;" + base)
    product = (b @ a).T * config["lora_alpha"] / config["r"]
    assert np.abs(product).max() > 0.1
    np.testing.assert_allclose(np.load(folder / "kernel.npy"), np.load(folder / "base.npy") + product, atol=1e-5)


def test_what_does_not_go_together_is_refused(tmp_path: Path):
    for option in (["--network"], ["--framework", "torch"]):
        result = CliRunner().invoke(app, ["new", str(tmp_path / "x"), "--task", "instruction", *option])
        assert result.exit_code != 0 and f"without {' '.join(option)}" in result.output + str(result.exception)
    assert not (tmp_path / "x").exists()
