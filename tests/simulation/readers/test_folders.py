"""Images in a folder for each client, or for each label."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.simulation import DatasetError, from_folder, partition_dirichlet

image = pytest.importorskip("PIL.Image")


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.fromarray(pixels).save(path)


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_labelled_images_are_arrays_in_the_order_of_their_names(tmp_path: Path):
    save(tmp_path / "bo" / "dog" / "2.png", noise(0, 4, 3, 3))
    save(tmp_path / "bo" / "cat" / "1.png", noise(1, 4, 3, 3))
    save(tmp_path / "bo" / "cat" / "0.PNG", noise(2, 4, 3, 3))
    save(tmp_path / "ann" / "eel" / "7.png", noise(3, 4, 3, 3))
    (tmp_path / "ann" / "eel" / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    data = from_folder(tmp_path)
    assert list(data.client_ids) == ["ann", "bo"]
    assert data.sizes.tolist() == [1, 3]
    found = data.client("bo")
    assert (found["x"].dtype, found["y"].dtype) == (np.uint8, np.int32)
    np.testing.assert_array_equal(found["x"], np.stack([noise(2, 4, 3, 3), noise(1, 4, 3, 3), noise(0, 4, 3, 3)]))
    assert found["y"].tolist() == [0, 0, 1]
    assert data.client("ann")["y"].tolist() == [2]
    named = from_folder(tmp_path, labels=["eel", "dog", "cat", "fox"])
    assert named.client("bo")["y"].tolist() == [2, 2, 1]


def test_without_folders_of_labels_there_is_no_y(tmp_path: Path):
    save(tmp_path / "ann" / "a.png", noise(0, 5, 5))
    found = from_folder(tmp_path, folders="clients", greyscale=True).client("ann")
    assert list(found) == ["x"]
    np.testing.assert_array_equal(found["x"], noise(0, 5, 5)[None])


def test_images_are_scaled_and_made_grey(tmp_path: Path):
    save(tmp_path / "ann" / "a.png", np.full((8, 6, 3), (255, 0, 0), np.uint8))
    save(tmp_path / "ann" / "b.jpg", np.full((3, 9), 200, np.uint8))
    grey = from_folder(tmp_path, folders="clients", image_size=(4, 2), greyscale=True).client("ann")["x"]
    assert grey.shape == (2, 4, 2)
    assert (grey[0] == round(255 * 0.299)).all()  # ITU-R 601-2, which Pillow converts by
    assert (abs(grey[1].astype(int) - 200) <= 2).all()
    assert from_folder(tmp_path, folders="clients", image_size=(4, 2)).client("ann")["x"].shape == (2, 4, 2, 3)


def test_a_clients_images_are_read_when_it_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for client in ("ann", "bo"):
        for number in range(3):
            save(tmp_path / client / f"{number}.png", noise(number, 2, 2))
    opened: list[str] = []
    real = image.open

    def watched(path: Path, **options: object) -> object:
        opened.append(Path(path).parent.name)
        return real(path, **options)

    monkeypatch.setattr(image, "open", watched)
    data = from_folder(tmp_path, folders="clients")
    assert (data.sizes.tolist(), opened) == ([3, 3], [])
    data.client("bo")
    assert opened == ["bo"] * 3


def test_images_of_different_sizes_are_named(tmp_path: Path):
    save(tmp_path / "ann" / "a.png", noise(0, 5, 4))
    save(tmp_path / "ann" / "b.png", noise(0, 5, 5))
    data = from_folder(tmp_path, folders="clients")
    with pytest.raises(ValueError, match=r"a\.png has 5 by 4 pixels, but .*b\.png has 5 by 5; give image_size"):
        data.client("ann")


@pytest.mark.parametrize("keep", [0, 30, 60])
def test_a_damaged_image_is_named(tmp_path: Path, keep: int):
    path = tmp_path / "ann" / "a.png"
    save(path, noise(0, 20, 20))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DatasetError, match=f"{path} is damaged, or no image"):
        from_folder(tmp_path, folders="clients").client("ann")


def test_what_is_no_such_folder_is_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        from_folder(tmp_path / "none")
    with pytest.raises(ValueError, match=r"has no images of clients; they must be in .*/CLIENT/ or"):
        from_folder(tmp_path)
    save(tmp_path / "ann" / "dog" / "a.png", noise(0, 2, 2))
    with pytest.raises(
        ValueError, match=r"has folders for the label 'dog', which is not in labels; did you mean 'dogs'\?"
    ):
        from_folder(tmp_path, labels=["cats", "dogs"])
    save(tmp_path / "bo" / "b.png", noise(0, 2, 2))
    with pytest.raises(ValueError, match=r"b\.png lies in its client's folder, but .*a\.png in a folder of a label"):
        from_folder(tmp_path, folders="clients")


def test_a_size_that_is_none_is_refused_at_the_call(tmp_path: Path):
    save(tmp_path / "ann" / "0.png", noise(0, 4, 3))
    for size, why in [
        ((5,), "image_size must be a height and a width"),
        ((5.5, 3), "the height in image_size must be an integer of 1 or more"),
        ((5, 0), "the width in image_size must be an integer of 1 or more"),
    ]:
        with pytest.raises((TypeError, ValueError), match=why):
            from_folder(tmp_path, image_size=size)


class TestFoldersOfLabels:
    """torchvision's and Keras's layout: root/label/image."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        for number in range(12):
            name = ("dog", "cat", "cat", "Bee")[number % 4]
            save(tmp_path / "all" / name / f"{number}.png", noise(number, 5, 4, 3))
        save(tmp_path / "all" / "cat" / "more" / "99.JPG", noise(99, 5, 4))
        (tmp_path / "all" / "cat" / "notes.txt").write_text("no image")
        (tmp_path / "all" / ".hidden").mkdir()
        return tmp_path / "all"

    def test_labels_and_pixels_are_those_of_keras(self, root: Path):
        pytest.importorskip("tensorflow")
        import keras

        dataset = keras.utils.image_dataset_from_directory(root, shuffle=False, batch_size=None, image_size=(5, 4))
        images, labels = map(np.stack, zip(*((x.numpy(), y.numpy()) for x, y in dataset), strict=True))
        one = from_folder(root, partition={"method": "iid", "clients": 1})
        assert one.label_names == tuple(dataset.class_names) == ("Bee", "cat", "dog")
        assert one.client(0)["y"].tolist() == labels.tolist()
        off = np.abs(one.client(0)["x"].astype(np.float32) - images).reshape(len(labels), -1).max(1)
        assert off[np.array(dataset.file_paths) != str(root / "cat" / "more" / "99.JPG")].max() == 0
        assert off.max() <= 3  # TensorFlow decodes JPEG in its own way
        with_names = from_folder(root, partition={"method": "iid", "clients": 1}, labels=["dog", "cat", "Bee"])
        assert with_names.client(0)["y"].tolist() != labels.tolist()
        assert sorted(with_names.client(0)["y"].tolist()) == sorted((2 - labels).tolist())

    def test_images_are_dealt_out_as_arrays_are(self, root: Path, monkeypatch: pytest.MonkeyPatch):
        words = {"method": "dirichlet", "clients": 3, "alpha": 1.0, "seed": 4}
        everything = from_folder(root, folders="labels", partition={"method": "iid", "clients": 1}).client(0)
        client_of = partition_dirichlet(everything["y"], clients=3, alpha=1.0, seed=4)
        opened: list[Path] = []
        real = image.open
        monkeypatch.setattr(image, "open", lambda path, **options: (opened.append(path), real(path, **options))[1])
        for partition in (words, lambda y: partition_dirichlet(y, clients=3, alpha=1.0, seed=4)):
            data = from_folder(root, folders="labels", partition=partition).map(lambda arrays: arrays)
            assert (list(data.client_ids), data.label_names) == ([0, 1, 2], ("Bee", "cat", "dog"))
            assert data.sizes.tolist() == np.bincount(client_of).tolist() and not opened
            for client in range(3):
                for name in "xy":
                    np.testing.assert_array_equal(data.client(client)[name], everything[name][client_of == client])
            opened.clear()

    def test_pixels_are_scaled_to_one(self, root: Path):
        options: dict[str, Any] = {"partition": {"method": "by_label"}, "greyscale": True}
        plain, scaled = (from_folder(root, scale=scale, **options).client(2)["x"] for scale in (False, True))
        assert (plain.dtype, scaled.dtype) == (np.uint8, np.float32)
        np.testing.assert_array_equal(scaled, plain / np.float32(255))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {},
                "Bee has images, and its name may be that of a client or that of a label; say folders='clients', or",
            ),
            ({"folders": "labels"}, "nothing says whose its images are; give partition="),
            ({"folders": "clients", "partition": {"method": "iid", "clients": 2}}, "both say whose each image is"),
            ({"folders": "label"}, "folders must be 'clients' or 'labels'.*found 'label'"),
            ({"partition": {"method": "id", "clients": 2}}, "found 'id'; did you mean 'iid'"),
            ({"partition": {"method": "iid"}}, "iid needs 'clients'"),
            ({"partition": {"method": "iid", "clients": 2, "alpha": 1}}, "iid does not take 'alpha'"),
            ({"partition": "iid"}, "partition must be a dict such as .*found a str|found the str"),
        ],
    )
    def test_what_says_too_little_or_too_much_is_refused(self, root: Path, options: Any, message: str):
        with pytest.raises((TypeError, ValueError), match=message):
            from_folder(root, **options)

    def test_the_other_layout_is_told(self, tmp_path: Path):
        for place in ("ann/dog", "bo/cat"):
            save(tmp_path / "clients" / place / "a.png", noise(0, 2, 2))
        for place in ("train/dog", "Test/dog", "val/dog"):
            save(tmp_path / "split" / place / "a.png", noise(0, 2, 2))
        iid = {"method": "iid", "clients": 1}
        with pytest.raises(
            ValueError, match=r"as those of clients lie.*say folders='clients', and leave partition out"
        ):
            from_folder(tmp_path / "clients", partition=iid)
        with pytest.raises(
            ValueError, match=r"has the folder train.*read .*split/train, .*such as .*split/Test, by itself"
        ):
            from_folder(tmp_path / "split")
        assert list(from_folder(tmp_path / "split", folders="clients").client_ids) == ["Test", "train", "val"]
        with pytest.raises(ValueError, match="has no images in folders of labels"):
            from_folder(tmp_path / "split" / "train" / "dog", partition=iid)
