"""A run's TOML file: what is right becomes a configuration, and what is wrong is told, all at once, with its key."""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from pathlib import Path
from typing import Any

import pytest

from hansa.cli import _private
from hansa.cli.config import ConfigError, RunConfig, differences, read_config, restore_config, stored
from hansa.cli.config.checking import expected, optional, table_of
from hansa.privacy import AtMost, Budget, Poisson, calibrate

DIGITS = """
[model]
name = "linear"
[data]
name = "digits"
partition = { method = "iid", clients = 4 }
[training]
rounds = 3
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text)
    return path


def problems(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_config(written(folder, text), overrides)
    return str(caught.value)


def test_what_is_not_said_has_its_default(tmp_path: Path):
    config = read_config(written(tmp_path, DIGITS))
    assert (config.training.rounds, config.training.seed, config.training.sampler) == (3, 0, "uniform")
    assert (config.data.batch_size, config.data.shuffle, config.output.folder) == (20, True, None)
    assert config.data.partition is not None and config.data.partition.clients == 4


def test_paths_are_relative_to_the_file(tmp_path: Path):
    (tmp_path / "model.py").touch()
    config = read_config(
        written(tmp_path, DIGITS.replace('name = "linear"', 'function = "model.py:f"') + '[output]\nfolder = "runs/a"')
    )
    assert config.output.folder == tmp_path / "runs/a"
    assert config.model.function is not None and config.model.function.file == tmp_path / "model.py"


def test_words_of_the_command_line_come_over_the_file(tmp_path: Path):
    path = written(tmp_path, DIGITS)
    config = read_config(path, ["training.rounds=20", "data.partition.clients=7", "output.sinks=['tensorboard']"])
    assert config.training.rounds == 20
    assert config.data.partition is not None and config.data.partition.clients == 7
    assert config.output.sinks == ["tensorboard"]
    assert read_config(path, ["output.project=a b"]).output.project == "a b"


def test_what_is_stored_comes_back(tmp_path: Path):
    text = DIGITS + '[output]\nfolder = "r"\n[training.client_optimizer]\nname = "sgd"\nlearning_rate = 1\n'
    config = read_config(written(tmp_path, text))
    assert restore_config(json.loads(json.dumps(stored(config))), "run.json") == config
    text = (
        DIGITS
        + 'cohort_size = 1.0\nbest_model = { monitor = "loss" }\nserver_optimizer = "adam"\nserver_learning_rate = 1'
    )
    config = read_config(written(tmp_path, text))
    assert config.training.server_optimizer is not None and config.training.server_optimizer.name == "adam"
    kept = json.loads(json.dumps(stored(config)))
    assert restore_config(kept, "run.json") == config
    # Keys that have another name now are read in what an earlier version has stored.
    kept["training"]["clients_per_round"] = kept["training"].pop("cohort_size")
    kept["training"]["best_model"]["metric"] = kept["training"]["best_model"].pop("monitor")
    assert restore_config(kept, "run.json") == config


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("rounds = 3", "rouns = 3", "training.rouns is no key; did you mean 'rounds'?"),
        ("rounds = 3", "", "training.rounds is missing: how many rounds; expected an integer"),
        ("rounds = 3", 'rounds = "3"', 'training.rounds = "3": expected an integer >= 1'),
        ("rounds = 3", "rounds = true", "training.rounds = true: expected an integer"),
        ("rounds = 3", "rounds = 0", "training.rounds = 0: expected an integer >= 1"),
        ("rounds = 3", "rounds = 3\nevaluate_every = 1.5", "training.evaluate_every = 1.5: expected an integer"),
        ("rounds = 3", 'rounds = 3\nsampler = "unifrm"', 'expected "uniform", "weighted" or "poisson"; did you mean'),
        *(
            ("rounds = 3", f'rounds = 3\nserver_optimizer = {{ name = "sgd", {rate} }}', message)
            for rate, message in [
                ("learning_rate = -0.1", "learning_rate = -0.1: expected a number >= 0"),
                ("learning_rate = nan", "learning_rate = nan: expected a number >= 0"),
                ("learning_rate = 1, options = { learning_rate = -1 }", "write training.server_learning_rate"),
            ]
        ),
        ("rounds = 3", "rounds = 3\nbest_model = 3", "training.best_model = 3: expected a table"),
        (
            "rounds = 3",
            "rounds = 3\nclients_per_round = 2",
            "clients_per_round has another name now: write cohort_size",
        ),
        *(
            ("rounds = 3", f"rounds = 3\ncohort_size = {size}", "expected an integer >= 1, or a fraction such")
            for size in ("0", "1.5", "0.0", "nan", '"all"', "true")
        ),
        (
            "rounds = 3",
            'rounds = 3\nbest_model = { metric = "loss" }',
            "best_model.metric has another name now: write mon",
        ),
        ("rounds = 3", "rounds = 3\nclient_learning_rate = 1", 'write client_optimizer = "sgd", for a start'),
        (
            "rounds = 3",
            'rounds = 3\nclient_optimizer = "sgd"',
            "training.client_learning_rate is missing: the learning",
        ),
        ("rounds = 3", 'rounds = 3\nserver_optimizer = "adm"', 'server_optimizer.name = "adm": expected "sgd", "adam"'),
        (
            "rounds = 3",
            "rounds = 3\nserver_optimizer = 3",
            "training.server_optimizer = 3: expected its name, or a table",
        ),
        (
            "rounds = 3",
            'rounds = 3\nserver_learning_rate = 1\nserver_optimizer = { name = "sgd", learning_rate = 1 }',
            "training.server_learning_rate and training.server_optimizer.learning_rate are one and the same",
        ),
        ("[model]", "[modl]", "modl is no key; did you mean 'model'?"),
        ('"iid"', '"dirichlet"', "data.partition.alpha is missing"),
        ('"iid", clients = 4', '"iid"', "data.partition.clients is missing"),
        ("clients = 4", "clients = 4, alpha = 1.0", "data.partition.alpha: iid does not take it"),
        ('partition = { method = "iid", clients = 4 }', "", "data.partition is missing, as this data has no clients"),
        ('name = "digits"', 'name = "emnist"', "data.partition: this data has clients"),
        ('name = "digits"', 'path = "no.csv"\nclient = "who"', "data.path: there is no "),
        ('name = "digits"', 'name = "digits"\npath = "x.csv"', "data has one of the keys name, path, function; found"),
        ('name = "linear"', 'function = "model.py:f"', "model.function: there is no file "),
        ('name = "linear"', 'function = "model.py"', 'such as "code.py:name"'),
        ("rounds = 3", 'rounds = 3\nsampler = "poisson"', "training.cohort_size is missing"),
        ("rounds = 3", "rounds = 3\nwith_replacement = true", "is of a number of clients, cohort_size"),
        ('name = "digits"', 'name = "digits"\nscale = { x = 255 }', "data.scale.x = 255: expected a table"),
        ('name = "digits"', 'name = "digits"\nscale = { x = { divide = 0 } }', "data.scale.x: divide must have no 0"),
        ('name = "digits"', 'name = "digits"\nsteps = 3\nepochs = 2', "data.steps = 3 and data.epochs = 2 both say"),
        ("rounds = 3", "rounds = ", "it is no TOML: "),
    ],
)
def test_a_mistake_is_told_with_its_key_and_what_is_expected(tmp_path: Path, before: str, after: str, message: str):
    assert before in DIGITS
    told = problems(tmp_path, DIGITS.replace(before, after, 1))
    assert told.startswith(str(tmp_path / "run.toml"))
    assert message in told


def test_all_mistakes_are_told_at_once(tmp_path: Path):
    told = problems(tmp_path, DIGITS.replace("rounds = 3", 'rouns = 3\nseed = "a"\nweighting = "no"'))
    assert re.search(r"run\.toml has 4 mistakes:\n", told)
    assert all(name in told for name in ("rouns", "training.seed", "training.weighting", "rounds is missing"))


@pytest.mark.parametrize("override", ["training.rounds", "=3", "training..rounds=3"])
def test_an_override_has_a_key_and_a_value(tmp_path: Path, override: str):
    assert "expected KEY=VALUE" in problems(tmp_path, DIGITS, override)


def test_differences_name_each_key():
    before = {"training": {"seed": 1, "rounds": 2}, "data": {"name": "digits"}}
    after = {"training": {"seed": 2, "rounds": 2, "sampler": "poisson"}, "data": {"name": "digits"}}
    assert differences(before, after) == [
        "training.seed was 1, and is now 2",
        'training.sampler was not set, and is now "poisson"',
    ]


def documented_keys(table: type[Any], path: str = "") -> typing.Iterator[tuple[str, str, str, str]]:
    """Each key with its type, its default and its meaning, as the reference has them."""
    kinds = typing.get_type_hints(table)
    for field in dataclasses.fields(table):
        name, kind = f"{path}{field.name}", kinds[field.name]
        inner = table_of(kind)
        if field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        else:
            default = dataclasses.MISSING
        if path or inner is None:
            said = "must be set" if default is dataclasses.MISSING else "" if optional(kind) else json.dumps(default)
            shown = f"`{said}`" if said not in ("", "must be set") else said
            yield f"`{name}`", expected(kind, field.metadata), shown, field.metadata["help"]
        if inner is not None:
            yield from documented_keys(inner, f"{name}.")


def test_the_reference_has_every_key_as_it_is():
    page = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text("utf-8")
    rows = [
        line
        for line in page.splitlines()
        if re.match(
            r"\| `((model|data|training|privacy|output|runtime)\.\S+|(algorithm|aggregator|distributor)`) \|", line
        )
        and line.count("|") == 5
    ]
    assert rows == [f"| {' | '.join(row)} |" for row in documented_keys(RunConfig)]


def test_keys_of_a_cluster_are_refused_without_one(tmp_path: Path):
    said = 'runtime.workers is of Ray, and runtime.kind is not; write runtime.kind = "ray"'
    assert said in problems(tmp_path, DIGITS, "runtime.workers=8")
    assert read_config(written(tmp_path, DIGITS), ['runtime.kind="ray"', "runtime.workers=8"]).runtime.workers == 8


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("privacy.epsilon=0", "privacy.epsilon = 0.0: it must be more than 0, such as 8.0"),
        ("privacy.delta=1", "privacy.delta = 1.0: it must be between 0 and 1, such as 1e-6"),
        ('aggregator="median"', "aggregator and privacy both say how updates become one; leave one of them out"),
        ("privacy.per_layer=true", "privacy.per_layer is of a fixed norm; say privacy.clip, such as 0.5"),
        ("data.held_out=0.1", "data.held_out = 0.1 holds out examples of the clients who train, and their metrics"),
        ('training.weighting="num_examples"', "a large client would change the model by more than the noise covers"),
    ],
)
def test_what_does_not_go_with_privacy_is_said(tmp_path: Path, override: str, message: str):
    private = f"{DIGITS}\n[privacy]\nepsilon = 8.0\ndelta = 1e-3\n"
    assert message in problems(tmp_path, private, override)


def test_a_private_run_is_a_rule_and_a_budget(tmp_path: Path):
    pytest.importorskip("dp_accounting", reason="the extra hansa[privacy]")
    private = f"{DIGITS}\n[privacy]\nepsilon = 8.0\ndelta = 1e-3\nclip = 0.5\n"
    config = read_config(written(tmp_path, private), ["training.cohort_size=10"])
    assert config.privacy is not None
    assert _private.budget(config.privacy) == Budget(8.0, 1e-3)
    rule = _private.rule(config.privacy, config.training, 20, True)
    assert (rule.clip, rule.cohort) == (0.5, 10)
    rounds = config.training.rounds
    noise = calibrate(8.0, 1e-3, rounds, Poisson(0.5))
    assert noise <= rule.mechanism.noise_multiplier < noise + 2e-6
    # Who answers a server takes part, so nothing is gained by chance.
    elsewhere = _private.rule(config.privacy, config.training, 20, False)
    assert elsewhere.mechanism.noise_multiplier == pytest.approx(calibrate(8.0, 1e-3, rounds, AtMost()), abs=2e-6)
