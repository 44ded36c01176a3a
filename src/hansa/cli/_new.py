"""`hansa new`: a small project to begin with, which runs as it is."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from hansa.cli.config import ConfigError
from hansa.cli.config.checking import shown
from hansa.cli.config.choices import OF_TRAINING, Algorithm, parameters

_FILES = ("README.md", "data.py", "model.py", "run.toml")
_OF_NETWORKS = ("README.md", "data.py", "devices.py", "policy.toml", "run.toml")
"""Files that a project with devices has of its own."""
_OF_INSTRUCTION = ("README.md", "data.py", "export.py", "model.py", "pretrain.py", "run.toml")
"""Files of a project that adapts a language model."""
_LAST_LAYER = {"keras": "dense_1", "torch": "2"}
_MODELS = {"keras": "model.py", "torch": "model_torch.py"}

_BEGINNINGS: dict[str, float | str] = {
    "client_learning_rate": 0.1,
    "server_learning_rate": 0.01,
    "proximal_strength": 0.01,
    "alpha": 0.01,
    "lambda_": 0.1,
    "q": 1.0,
    "groups": 2,
    "rho": 0.05,
    "num_classes": 10,
    "base_optimizer": "sgd",
    "base_learning_rate": 0.1,
    "personal_learning_rate": 0.1,
}
"""Values to begin with, for this model and data, of what an algorithm must be told."""

_NOT_FOUND = {"fed_bn": {"personal"}}
"""What algorithms read off a model by themselves, which this one does not have: layers of batch normalization."""


def new(
    folder: Path,
    framework: str = "keras",
    algorithm: str | None = None,
    network: bool = False,
    task: str = "digits",
) -> list[Path]:
    """Write the project.

    Args:
        folder: where.
        framework: what the model is written in, "keras" or "torch".
        algorithm: how it trains, a name as in its `[algorithm]`; by default federated averaging, without the table.
        network: whether devices train it, and not simulated clients.
        task: what the model learns: "digits", or "instruction", where adapters of a language model learn to answer.

    Returns:
        Its files.

    Raises:
        ConfigError: if one of them is there already, or there is no such algorithm. Nothing is then written.
    """
    if algorithm is not None and algorithm not in Algorithm.functions():
        raise ConfigError("hansa new", [Algorithm.unknown(algorithm, "--algorithm")])
    instruction = task == "instruction"
    if instruction and (network or framework != "keras"):
        given = "--network" if network else f"--framework {framework}"
        raise ConfigError(
            "hansa new", [f"--task instruction is a Keras model of simulated clients, without {given}: leave it out"]
        )
    names = _OF_INSTRUCTION if instruction else sorted({*_FILES, *_OF_NETWORKS}) if network else _FILES
    targets = [folder / name for name in names]
    there = [target for target in targets if target.exists()]
    if there:
        raise ConfigError(
            folder, [f"{there[0].name} is there already, and nothing is overwritten; name another folder"]
        )
    folder.mkdir(parents=True, exist_ok=True)
    personal = "scores/lora_*" if instruction else _LAST_LAYER[framework]
    for target in targets:
        # Under another ending, so that no tool takes them for modules of Hansa.
        source = _MODELS[framework] if target.name == "model.py" and not instruction else target.name
        of_network = network and target.name in _OF_NETWORKS
        place = "tasks/instruction" if instruction else "network/project" if of_network else "project"
        project = files("hansa.cli").joinpath(place)
        text = project.joinpath(source + ".txt").read_text("utf-8")
        if algorithm is not None and target.name == "run.toml":
            text = _with_algorithm(text, algorithm, {**_BEGINNINGS, **dict.fromkeys(("personal", "local"), personal)})
        target.write_text(text.replace("PROJECT", folder.resolve().name), "utf-8")
    return targets


def _with_algorithm(text: str, name: str, beginnings: Mapping[str, float | str]) -> str:
    """A run's file that has the algorithm, with what it must be told, and as comments what else it may be told.

    Args:
        text: the file.
        name: the algorithm's.
        beginnings: values of keys to begin with.
    """
    function = Algorithm.function_of(name)
    rates = [key for key, each in parameters(function).items() if each.required and key in OF_TRAINING]
    training = "".join(f"{key} = {shown(beginnings[key])}\n" for key in rates)
    lines = ["[algorithm]", f"name = {shown(name)}  # hansa.learning.{function.__name__}"]
    keys = Algorithm.keys_of(name)
    needed = {key for key, each in keys.items() if each.required} | _NOT_FOUND.get(name, set())
    needed |= {key.replace("optimizer", "learning_rate") for key in needed if key.endswith("_optimizer")}
    for key, each in keys.items():
        if key in needed and key in beginnings:
            lines.append(f"{key} = {shown(beginnings[key])}")
        elif each.required and key in Algorithm.found():
            lines.append(f"# {key}: by default the number of clients")
        elif each.required:
            lines.append(f"# {key} = ...  must be set: {each.expected}")
        elif each.default is not None:
            lines.append(f"# {key} = {shown(each.default)}")
    before, output, after = text.partition("[output]")
    return before.rstrip("\n") + "\n" + training + "\n" + "\n".join(lines) + "\n\n" + output + after
