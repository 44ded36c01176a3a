"""The files of the page on clusters are what Slurm, Kubernetes and Ray read, and a run there is that of one process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "cluster"

RUN = """
[model]
name = "linear"
[data]
name = "digits"
partition = { method = "iid", clients = 6 }
[training]
rounds = 2
cohort_size = 4
client_optimizer = "sgd"
client_learning_rate = 0.1
"""
ON_RAY = """
[runtime]
kind = "ray"
workers = 2
address = "auto"
"""


def test_the_job_of_kubernetes_is_a_rayjob_whose_driver_runs_hansa_train():
    job = yaml.safe_load((FOLDER / "rayjob.yaml").read_text("utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"]["entrypoint"].startswith("hansa train ")
    cluster = job["spec"]["rayClusterSpec"]
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    containers = [group["template"]["spec"]["containers"][0] for group in (head, workers)]
    assert len({container["image"] for container in containers}) == 1
    cpus = int(containers[1]["resources"]["limits"]["cpu"]) * workers["replicas"]
    assert f"workers = {cpus}" in (FOLDER / "rayjob.yaml").read_text("utf-8")
    (mount,), (volume,) = containers[0]["volumeMounts"], head["template"]["spec"]["volumes"]
    assert mount["name"] == volume["name"] and job["spec"]["entrypoint"].split()[-1].startswith(mount["mountPath"])


def test_the_script_of_slurm_is_one_of_bash_and_gives_ray_options_that_it_has():
    path = FOLDER / "slurm.sh"
    subprocess.run(["bash", "-n", path], check=True)
    text = path.read_text("utf-8")
    nodes, cpus = (int(re.findall(rf"#SBATCH --{name}=(\d+)", text)[0]) for name in ("nodes", "cpus-per-task"))
    assert f"workers = {nodes * cpus}" in text
    pytest.importorskip("ray")
    from ray.scripts.symmetric_run import symmetric_run

    own = {name for option in symmetric_run.params for name in option.opts}
    assert {"--address", "--min-nodes"} <= own


@pytest.mark.whole
@pytest.mark.xdist_group("ray")
def test_the_script_of_slurm_trains_the_model_that_one_process_trains(tmp_path: Path):
    pytest.importorskip("ray")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    commands = {"scontrol": "echo 127.0.0.1", "srun": 'exec "$@"', "hansa": f'exec {sys.executable} -m hansa.cli "$@"'}
    for name, command in commands.items():
        (bin_ / name).write_text(f"#!/bin/bash\n{command}\n")
        (bin_ / name).chmod(0o755)
    path = f"{bin_}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    slurm = {"SLURM_JOB_NODELIST": "here", "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_PER_TASK": "2"}
    environment = {**os.environ, **slurm, "PATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("XLA_FLAGS", None)
    found = {}
    for where, command in {"cluster": ["bash", FOLDER / "slurm.sh"], "here": ["hansa", "train", "run.toml"]}.items():
        folder = tmp_path / where
        folder.mkdir()
        run = RUN + (ON_RAY if where == "cluster" else "") + f'[output]\nfolder = "{folder}/run"\n'
        (folder / "run.toml").write_text(run)
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=900)
        records = map(json.loads, (folder / "run" / "metrics.jsonl").read_text("utf-8").splitlines())
        found[where] = [{name: value for name, value in each.items() if "loss" in name} for each in records]
    assert len(found["cluster"]) == 2
    assert all(len(each) > 0 for each in found["here"])
    assert found["cluster"] == found["here"]
