"""Whose data and which model a configuration says: each partition, files of arrays, each model by name."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.cli._models import ModelError, ModelSource
from hansa.cli._populations import DataError, class_count, load
from hansa.cli.config.schema import DataTable, ModelTable, PartitionTable, ScaleTable
from hansa.simulation import load_digits


@pytest.mark.parametrize(
    ("options", "clients"),
    [
        ({"method": "iid", "clients": 7}, 7),
        ({"method": "dirichlet", "clients": 7, "alpha": 0.5, "equal_sizes": True}, 7),
        ({"method": "shards", "clients": 7, "shards_per_client": 3}, 7),
        ({"method": "by_label"}, 10),
        ({"method": "by_label", "clients": 5, "labels_per_client": 2}, 5),
        ({"method": "by_quantity", "clients": 7, "sigma": 1.0, "min_examples": 9}, 7),
    ],
)
def test_each_partition_deals_every_example_out_once(options: dict[str, Any], clients: int):
    data = load(DataTable(name="digits", partition=PartitionTable(**options))).examples
    found, digits = data.centralized(), load_digits()
    assert len(data) == clients
    assert np.array_equal(np.sort(found["x"].sum(1)), np.sort(digits.train_images.sum(1)))
    assert np.bincount(found["y"]).tolist() == np.bincount(digits.train_labels).tolist()


def test_what_is_held_out_is_not_trained_on():
    table = DataTable(name="digits", partition=PartitionTable("iid", 10), held_out=0.25, epochs=2, batch_size=10)
    populations = load(table)
    evaluation = populations.evaluation
    assert evaluation is not None and populations.by_client
    assert int(populations.training.sizes.sum()) == 2 * int(populations.examples.sizes.sum())
    assert int(populations.examples.sizes.sum() + evaluation.sizes.sum()) == 1797
    assert list(evaluation.client_ids) == list(populations.examples.client_ids)
    assert populations.examples.client(3)["x"].shape[0] == len(populations.examples.client(3)["y"])


def test_arrays_are_scaled_whoever_has_them():
    table = DataTable(
        name="digits", partition=PartitionTable("iid", 3), held_out=0.5, scale={"x": ScaleTable(0.5, [0.25] * 64)}
    )
    plain, scaled = load(replace(table, scale=None)), load(table)
    for one, other in ((plain.examples, scaled.examples), (plain.evaluation, scaled.evaluation)):
        assert one is not None and other is not None
        np.testing.assert_array_equal(other.centralized()["x"], (one.centralized()["x"] - 0.5) / 0.25)
    assert [step["step"] for step in scaled.training.plan().to_json()["steps"]] == ["scale", "hold_out", "shuffle"]


def test_only_some_clients_and_examples():
    table = DataTable(name="digits", partition=PartitionTable("iid", 10), max_clients=3, examples_per_client=5)
    assert load(table).training.sizes.tolist() == [5, 5, 5]


@pytest.mark.parametrize(
    ("keys", "batches"),
    [
        ({"epochs": 2}, [10, 3, 10, 3]),
        ({"epochs": 2, "across_epochs": True}, [10, 10, 6]),
        ({"epochs": 2, "drop_remainder": True}, [10, 10]),
        ({"steps": 3}, [10, 3, 10]),
        ({"steps": 3, "across_epochs": True}, [10, 10, 10]),
    ],
)
def test_how_a_client_goes_through_its_examples(keys: dict[str, Any], batches: list[int]):
    table = DataTable(
        name="digits", partition=PartitionTable("iid", 10), examples_per_client=13, batch_size=10, max_clients=2, **keys
    )
    training = load(table).training
    for client in training.cohort(training.client_ids):
        assert [len(batch["y"]) for batch in client] == batches


@pytest.mark.parametrize("owned", [True, False])
def test_files_of_arrays(tmp_path: Path, owned: bool):
    rng = np.random.default_rng(1)
    images, labels, owner = rng.normal(size=(30, 4)), np.arange(30) % 3, np.arange(30) % 5
    np.savez(tmp_path / "data.npz", images=images, labels=labels, owner=owner)
    table = DataTable(
        path=tmp_path / "data.npz",
        client="owner" if owned else None,
        partition=None if owned else PartitionTable("by_label"),
        features={"x": "images", "y": "labels"},
        types={"x": "float32", "y": "int32"},
    )
    populations = load(table)
    data = populations.examples
    assert str(data.example_type) == "<x=float32[?,4],y=int32[?]>"
    assert len(data) == (5 if owned else 3)
    rows = owner == 2 if owned else labels == 2
    assert np.array_equal(data.client(2)["x"], images[rows].astype(np.float32))
    assert class_count(populations, "y") == 3
    assert class_count(populations, "x") is None


def test_what_a_file_does_not_have(tmp_path: Path):
    np.savez(tmp_path / "data.npz", x=np.zeros((3, 2)), y=np.zeros(3, int))
    with pytest.raises(DataError, match=r'data\.client = "who": .*data\.npz has the arrays x, y'):
        load(DataTable(path=tmp_path / "data.npz", client="who"))
    with pytest.raises(DataError, match=r"data\.features\.x: .* has the arrays x, y"):
        load(DataTable(path=tmp_path / "data.npz", partition=PartitionTable("iid", 2), features={"x": "images"}))
    with pytest.raises(DataError, match="clients must be at most the number of examples, 3"):
        load(DataTable(path=tmp_path / "data.npz", partition=PartitionTable("iid", 9)))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with `train` and `test`, and a folder for each label in them."""
    image = pytest.importorskip("PIL.Image")
    for place in [*["train/cat"] * 3, *["train/dog"] * 5, *["test/dog"] * 2]:
        (tmp_path / "pictures" / place).mkdir(parents=True, exist_ok=True)
        number = len(list((tmp_path / "pictures").rglob("*.png")))
        grey = np.full((4, 4), 10 * number, np.uint8)
        image.fromarray(grey).save(tmp_path / "pictures" / place / f"{number}.png")
    return tmp_path / "pictures"


def test_images_in_folders_of_labels_are_dealt_out(pictures: Path):
    options = {"greyscale": True, "scale": True}
    table = DataTable(path=pictures, format="images", partition=PartitionTable("iid", 2), options=options)
    populations = load(table)
    data, evaluation = populations.examples, populations.evaluation
    assert data.label_names == ("cat", "dog") and class_count(populations, "y") == 2
    assert data.sizes.tolist() == [4, 4]
    assert sorted(np.rint(data.centralized()["x"][:, 0, 0] * 25.5)) == list(range(8))
    assert np.bincount(data.centralized()["y"]).tolist() == [3, 5]
    assert evaluation is not None and not populations.by_client
    assert populations.what == f"the examples of {pictures / 'test'}"
    assert evaluation.centralized()["y"].tolist() == [1, 1]  # dog's number, though there is no cat
    held_out = load(replace(table, held_out=0.25))
    assert held_out.examples.sizes.sum() == 6 and "held out" in held_out.what


def test_a_test_folder_has_the_labels_of_training(pictures: Path):
    table = DataTable(
        path=pictures / "test", test_path=pictures / "train", format="images", partition=PartitionTable("iid", 2)
    )
    with pytest.raises(DataError, match=r"data\.test_path: .*train has folders for the label 'cat'"):
        load(table)


def test_folders_of_clients_need_no_key_where_it_is_clear(pictures: Path):
    populations = load(DataTable(path=pictures, format="images", folders="clients"))
    assert list(populations.training.client_ids) == ["cat", "dog"] and populations.evaluation is not None
    assert list(populations.evaluation.client_ids) == ["dog"] and populations.evaluation.sizes.tolist() == [2]
    for path in (pictures, pictures / "train"):
        told = r'data\.folders is missing: .*train/cat has images.*folders = "labels" and .*partition = { method = '
        with pytest.raises(DataError, match=told):
            load(DataTable(path=path, format="images"))
    own = pictures.with_name("own")
    for part in ("train", "test"):
        shutil.copytree(pictures / part, own / part / "ann")
    for folders in (None, "clients"):
        populations = load(DataTable(path=own, format="images", folders=folders))
        assert list(populations.training.client_ids) == ["ann"]
        assert populations.training.label_names == ("cat", "dog") and populations.evaluation is not None
        assert populations.evaluation.centralized()["y"].tolist() == [1, 1]


@pytest.mark.parametrize("name", ["linear", "mlp", "cnn"])
@pytest.mark.parametrize("kind", ["<x=float32[?,64],y=int32[?]>", "<x=float32[?,28,28],y=int32[?]>"])
def test_models_by_name_have_an_output_for_each_label(name: Any, kind: str):
    import hansa

    def weights() -> list[Any]:
        source = ModelSource(ModelTable(name=name), 3, hansa.to_type(kind), 10)
        model = source.make()
        assert model.output_shape == (None, 10)
        return [np.asarray(weight) for weight in model.get_weights()]

    assert all(np.array_equal(first, second) for first, second in zip(weights(), weights(), strict=True))


def test_models_by_name_take_labelled_examples_only():
    import hansa

    with pytest.raises(ModelError, match=r"write a model of your own, and name it by model\.function"):
        ModelSource(ModelTable(name="mlp"), 0, hansa.to_type("<x=int32[?,80],y=int32[?,80],z=int32[?]>"), None).make()
    with pytest.raises(ModelError, match="the model cnn takes images, and x has the shape"):
        ModelSource(ModelTable(name="cnn"), 0, hansa.to_type("<x=float32[?,5],y=int32[?]>"), 3).make()
