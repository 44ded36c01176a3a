"""`[algorithm]` and `[aggregator]` of a run's file: what they may say, what is told of mistakes, and runs with them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from hansa import aggregators, learning
from hansa.cli._new import new
from hansa.cli.config import ConfigError, differences, read_config, restore_config, stored
from hansa.cli.config.algorithms import arguments
from hansa.cli.config.choices import OF_TRAINING, Algorithm, Coding, Rule, parameters
from hansa.models.named_optimizers import OptimizerName
from tests.cli.test_config import DIGITS, problems, written
from tests.cli.test_strangers import CONFIG, MODEL, hansa, succeeded

# On the worker that has tests/cli/test_commands.py, where all is imported.
pytestmark = pytest.mark.xdist_group("project")

SCAFFOLD = DIGITS + 'client_learning_rate = 0.1\n[algorithm]\nname = "scaffold"\n'
PROX = DIGITS + '[algorithm]\nname = "fed_prox"\nproximal_strength = 0.1\n'
RULE = """
[aggregator]
name = "zeroing"
quantile = 0.98
inner = { name = "clipping", quantile = 0.8, inner = "median" }
"""


def test_every_builder_and_every_rule_can_be_named():
    builders = {name for name in dir(learning.algorithms) if name.startswith("build_")}
    given = {*Algorithm.functions().values(), "build_fl_trust"}
    assert given == {*builders, "build_federated_averaging_process"}
    for name in Algorithm.functions():
        keys = parameters(Algorithm.function_of(name))
        assert "model_fn" in keys and "seed" in keys, name
        assert all(each.kinds or not each.required for key, each in keys.items() if key not in Algorithm.elsewhere())
    assert {name for name in dir(aggregators) if name.islower()} - set(Rule.functions()) == {"attacks", "codecs"}
    assert set(Coding.functions()) == {name for name in dir(aggregators.codecs) if name.islower()}
    attacks = {name for name in Rule.functions() if "." in name}
    assert attacks == {"attacks.gaussian_noise", "attacks.scaled", "attacks.sign_flip"}


def test_what_only_type_checkers_read_is_looked_past():
    keys = parameters(learning.build_fed_prox)
    assert keys["proximal_strength"].required and keys["proximal_strength"].kinds == (float,)
    assert keys["aggregator"].kinds == (Rule,) and not keys["aggregator"].required
    assert keys["client_optimizer"].kinds == (OptimizerName,)


@pytest.mark.parametrize(
    "text", [SCAFFOLD, PROX, DIGITS + RULE, 'algorithm = "fed_exp"\naggregator = "mean"\n' + DIGITS]
)
def test_what_is_stored_comes_back(tmp_path: Path, text: str):
    config = read_config(written(tmp_path, text))
    kept = json.loads(json.dumps(stored(config)))
    assert restore_config(kept, "run.json") == config
    assert not differences(kept, stored(config))


def test_a_rule_is_nested_as_in_python(tmp_path: Path):
    rule = read_config(written(tmp_path, DIGITS + RULE)).aggregator
    assert rule is not None
    inner = aggregators.clipping(aggregators.median(), quantile=0.8)
    assert repr(rule.make()) == repr(aggregators.zeroing(inner, quantile=0.98))
    assert str(rule) == "zeroing (quantile = 0.98, inner = clipping (quantile = 0.8, inner = median))"
    headings = '[aggregator]\nname = "zeroing"\n[aggregator.inner]\nname = "krum"\nbyzantine = 1\n'
    rule = read_config(written(tmp_path, DIGITS + headings)).aggregator
    assert rule is not None and repr(rule.make()) == repr(aggregators.zeroing(aggregators.krum(1)))


def test_a_rule_may_be_attacked(tmp_path: Path):
    text = DIGITS + '[aggregator]\nname = "attacks.sign_flip"\nshare = 0.2\ninner = "median"\n'
    rule = read_config(written(tmp_path, text)).aggregator
    assert rule is not None
    assert repr(rule.make()) == repr(aggregators.attacks.sign_flip(aggregators.median(), share=0.2))


def test_a_codec_is_nested_as_in_python(tmp_path: Path):
    codecs = aggregators.codecs
    text = (
        DIGITS
        + """
[aggregator]
name = "compressed"
codec = { name = "top_k", share = 0.1 }
error_feedback = true
inner = "mean"
[distributor]
name = "rotated"
codec = { name = "quantised", bits = 4 }
"""
    )
    config = read_config(written(tmp_path, text))
    assert config.distributor is not None and config.aggregator is not None
    assert repr(config.distributor.make()) == repr(codecs.rotated(codecs.quantised(bits=4)))
    expected = aggregators.compressed(codecs.top_k(0.1), aggregators.mean(), error_feedback=True)
    assert repr(config.aggregator.make()) == repr(expected)
    kept = json.loads(json.dumps(stored(config)))
    assert restore_config(kept, "run.json") == config
    given = arguments(config, {}, population=20)
    assert repr(given["distributor"]) == repr(config.distributor.make())


def test_a_builder_is_given_what_it_takes(tmp_path: Path):
    said = {"client_learning_rate": 0.1, "server_learning_rate": None, "client_weighting": "num_examples", "seed": 3}
    given = arguments(read_config(written(tmp_path, SCAFFOLD)), said, population=20)
    assert given == {"client_learning_rate": 0.1, "seed": 3, "population": 20}
    given = arguments(read_config(written(tmp_path, SCAFFOLD + "population = 50\n")), said, population=20)
    assert given["population"] == 50
    given = arguments(read_config(written(tmp_path, DIGITS + RULE)), said, population=20)
    assert given.keys() == {"client_learning_rate", "client_weighting", "seed", "aggregator"}


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            DIGITS + '[algorithm]\nname = "scafold"',
            ['algorithm.name = "scafold" is no algorithm; did you mean "scaffold"? there are federated_averaging, '],
        ),
        (DIGITS + '[algorithm]\nname = "FedProx"', ['did you mean "fed_prox"?']),
        (DIGITS + '[algorithm]\nname = "FedAvg"', ['did you mean "federated_averaging"?']),
        (
            DIGITS + '[algorithm]\nname = "fl_trust"',
            ["its rounds take data at the server, which no file has; train it"],
        ),
        (DIGITS + "[algorithm]\noption = 1", ["algorithm.name is missing; there are "]),
        ("algorithm = 3\n" + DIGITS, ["algorithm = 3: expected its name, or a table"]),
        (
            DIGITS + '[algorithm]\nname = "fed_prox"',
            ["algorithm.proximal_strength is missing: fed_prox needs it; expected a number"],
        ),
        (PROX.replace("0.1", '"a"'), ['algorithm.proximal_strength = "a": expected a number']),
        (PROX.replace("0.1", "-1.0"), ["algorithm: proximal_strength must be a number at least 0, found -1.0"]),
        (
            PROX.replace("proximal_strength", "proximal"),
            [
                "algorithm.proximal is no key; did you mean 'proximal_strength'? those of fed_prox are name, ",
                "algorithm.proximal_strength is missing",
            ],
        ),
        (
            SCAFFOLD + 'option = "III"\npopulation = 1.5\naggregator = "mean"\nclient_learning_rate = 1',
            [
                'algorithm.option = "III": expected "I" or "II"',
                "algorithm.population = 1.5: expected an integer",
                "algorithm.aggregator is no key of this table; write the table [aggregator]",
                "algorithm.client_learning_rate is no key of this table; write training.client_learning_rate",
            ],
        ),
        (SCAFFOLD + "population = 0", ["algorithm: population must be a number at least 1, found 0"]),
        (
            SCAFFOLD.replace("client_learning_rate = 0.1", 'client_optimizer = "sgd"\nweighting = "uniform"'),
            [
                "training.client_optimizer: scaffold has no such thing; leave it out",
                "training.weighting: scaffold has no such thing; leave it out",
                "training.client_learning_rate is missing: scaffold needs it",
            ],
        ),
        (PROX.replace("[algorithm]", "client_learning_rate = 1\n[algorithm]"), ['write client_optimizer = "sgd", for']),
        (PROX + 'client_schedule = "none.py:slower"', ["algorithm.client_schedule: there is no file "]),
        (
            DIGITS + RULE.replace("clipping", "cliping"),
            ['aggregator.inner.name = "cliping" is no rule; did you mean'],
        ),
        (DIGITS + RULE.replace("0.98", "98"), ["aggregator: quantile "]),
        (
            DIGITS + '[aggregator]\nname = "krum"',
            ["aggregator.byzantine is missing: krum needs it; expected an integer"],
        ),
        (
            DIGITS + '[aggregator]\nname = "krum"\nkeep = 1',
            ["aggregator.keep is no key; those of krum are name, "],
        ),
        (
            DIGITS + '[distributor]\nname = "quantized"\nbits = 4',
            ['distributor.name = "quantized" is no codec; did you mean "quantised"?'],
        ),
        (DIGITS + '[distributor]\nname = "quantised"\nbits = 9', ["distributor: bits of quantised"]),
        (DIGITS + '[distributor]\nname = "eden"\nbit = 2', ["distributor.bit is no key; did you mean 'bits'?"]),
        (
            DIGITS + '[distributor]\nname = "rotated"\ncodec = "median"',
            ['distributor.codec.name = "median" is no codec'],
        ),
        (
            DIGITS + 'distributor = 3\n[algorithm]\nname = "fed_ex_lora"\ndistributor = "eden"',
            ["algorithm.distributor is no key", "training.distributor is no key"],
        ),
        (
            'distributor = "eden"\n' + DIGITS + '[algorithm]\nname = "fed_ex_lora"',
            ["distributor: fed_ex_lora takes no codec for what it sends; leave it out"],
        ),
        (
            DIGITS + '[aggregator]\nname = "median"\ninner = "mean"',
            ["aggregator.inner is no key; those of median are "],
        ),
    ],
)
def test_a_mistake_is_told_with_its_key_and_what_to_write(tmp_path: Path, text: str, messages: list[str]):
    told = problems(tmp_path, text)
    assert [message for message in messages if message not in told] == [], told
    if len(messages) > 1:
        assert f"has {len(messages)} mistakes" in told


@pytest.mark.parametrize("name", Algorithm.functions())
def test_a_new_project_may_have_any_algorithm(tmp_path: Path, name: str):
    new(tmp_path, algorithm=name)
    text = (tmp_path / "run.toml").read_text()
    needed = {key for key, each in Algorithm.keys_of(name).items() if each.required} - {"population"}
    if "must be set" in text:
        with pytest.raises(ConfigError, match="is missing"):
            read_config(tmp_path)
        return
    config = read_config(tmp_path)
    assert config.algorithm is not None and config.algorithm.name == name
    assert config.algorithm.arguments.keys() >= needed
    assert name != "fed_bn" or config.algorithm.arguments == {"personal": "dense_1"}  # the model normalizes no batches


def test_a_new_project_with_an_unknown_algorithm_is_not_begun(tmp_path: Path):
    result = hansa("new", tmp_path / "a", "--algorithm", "scafold")
    assert result.exit_code == 2 and 'did you mean "scaffold"?' in result.stderr
    assert not (tmp_path / "a").exists()


def test_keys_of_training_are_those_of_averaging():
    known = parameters(learning.build_federated_averaging_process)
    assert known.keys() - OF_TRAINING.keys() == {"model_fn", "client_schedule", "aggregator", "distributor"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of SCAFFOLD whose updates are clipped, and whose model and control are sent in bytes."""
    folder = tmp_path_factory.mktemp("algorithms")
    (folder / "model.py").write_text(MODEL + "\n\ndef slower(number):\n    return 1 / (1 + number)\n")
    text = CONFIG.replace("evaluate_initial = true", "client_learning_rate = 0.1")
    text += '[algorithm]\nname = "scaffold"\n[aggregator]\nname = "clipping"\nquantile = 0.5\n'
    text += '[distributor]\nname = "quantised"\nbits = 8\n'
    (folder / "run.toml").write_text(text)
    succeeded("train", folder)
    return folder


def test_a_run_says_its_algorithm_and_what_its_rule_measures(made: Path):
    with (made / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["aggregator/bound"]) > 0 for row in rows] == [True, True]
    about: dict[str, Any] = json.loads((made / "run" / "run.json").read_text())
    config = about["asked"]["config"]
    assert config["algorithm"] == {"name": "scaffold"}
    assert config["aggregator"] == {"name": "clipping", "quantile": 0.5}
    assert config["distributor"] == {"name": "quantised", "bits": 8}
    assert about["about"]["settings"]["distributor"] == "quantised(bits=8, bucket=512)"
    assert about["about"]["settings"]["algorithm"] == "SCAFFOLD" and about["about"]["parameters"] == 640
    assert about["about"]["settings"]["aggregator"].startswith("clipping(mean(), bound=1.0, quantile=0.5")
    page = succeeded("report", made / "run").stdout.strip()
    assert "scaffold" in Path(page).read_text()


def test_a_run_goes_on_with_its_algorithm_only(made: Path):
    result = hansa("train", made, "--set", "algorithm.option=I")
    assert result.exit_code == 2 and 'algorithm.option was not set, and is now "I"' in result.stderr
    result = hansa("train", made, "--set", 'algorithm={name="fed_nova"}')
    assert result.exit_code == 2 and 'algorithm.name was "scaffold", and is now "fed_nova"' in result.stderr
    # The clients' controls are in the checkpoint.
    last = json.loads(succeeded("resume", made / "run", "--rounds", "3", "--json").stdout.splitlines()[-1])
    assert last["rounds"] == 3


def test_a_run_with_states_of_clients_is_evaluated(made: Path):
    found = json.loads(succeeded("evaluate", made / "run", "--json").stdout)
    assert found["clients"]["loss"]["clients"] == 3
    assert found["metrics"]["loss"] == pytest.approx(found["clients"]["loss"]["mean"], rel=0.2)


def test_a_round_is_explained_with_its_algorithm(made: Path):
    said = succeeded("explain", made).stdout
    assert said.startswith("Algorithm scaffold\nRule      clipping (quantile = 0.5)\nSent by   quantised (bits = 8)\n")
    told = json.loads(succeeded("explain", made, "--json").stdout)
    assert (told["algorithm"], told["aggregator"]["name"]) == ({"name": "scaffold"}, "clipping")
    assert told["distributor"] == {"name": "quantised", "bits": 8}
    # The control goes both ways beside the model: 640 floats of each, and a few numbers. Down they are bytes.
    assert 2 * 640 <= told["bytes_down"]["known"] < 2 * 640 + 128
    assert 2 * 2560 <= told["bytes_up"]["known"] < 2 * 2560 + 256


@pytest.mark.slow
def test_a_function_of_the_users_is_an_argument(made: Path, tmp_path: Path):
    text = (made / "run.toml").read_text().partition("[algorithm]")[0].replace("client_learning_rate = 0.1", "")
    text = text.replace('"run"', f'"{tmp_path / "run"}"').replace("rounds = 2", "rounds = 1")
    text += '[algorithm]\nname = "fed_avgm"\nclient_schedule = "model.py:slower"\n'
    (made / "slower.toml").write_text(text)
    succeeded("train", made / "slower.toml")
    kept = json.loads((tmp_path / "run" / "run.json").read_text())["asked"]["config"]
    assert kept["algorithm"]["client_schedule"] == f"{made / 'model.py'}:slower"
    assert list(kept["files"]) == [str(made / "model.py")]


@pytest.mark.slow
def test_clients_are_evaluated_with_their_own_weights(made: Path, tmp_path: Path):
    text = (made / "run.toml").read_text().partition("[algorithm]")[0].replace("client_learning_rate = 0.1", "")
    text = text.replace('"run"', f'"{tmp_path / "run"}"') + '[algorithm]\nname = "ditto"\nlambda_ = 0.0\n'
    (made / "ditto.toml").write_text(text)
    succeeded("train", made / "ditto.toml")
    found = json.loads(succeeded("evaluate", tmp_path / "run", "--on", "training", "--json").stdout)
    # A model that was trained on a client's data alone has less loss on them than the model of all.
    assert found["clients"]["loss"]["mean"] < found["metrics"]["loss"]
