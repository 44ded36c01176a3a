"""Datasets by name, from small files in the formats of the published ones, and from the real ones that are here."""

import dataclasses
import gzip
import hashlib
import io
import lzma
import sqlite3
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hansa import simulation
from hansa.simulation import DatasetError, datasets, federated_datasets
from hansa.simulation._files import PublishedFile, data_dir

tensorflow = pytest.importorskip("tensorflow")


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty `HANSA_DATA_DIR`; nothing can be downloaded."""
    monkeypatch.setenv("HANSA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HANSA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for module in (datasets, federated_datasets):
        for name in [name for name in vars(module) if name.endswith("_MIRRORS")]:
            monkeypatch.setattr(module, name, ("http://127.0.0.1:9/",))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def with_digest_of(file: PublishedFile, content: bytes) -> PublishedFile:
    return dataclasses.replace(file, sha256=hashlib.sha256(content).hexdigest())


def put(path: Path, content: bytes) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return content


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


def test_fashion_mnist_is_never_taken_for_mnist(data: Path, monkeypatch: pytest.MonkeyPatch):
    arrays = {"train_images": np.ones((3, 28, 28)), "train_labels": [1, 2, 3], "test_images": np.zeros((2, 28, 28))}
    arrays["test_labels"] = [9, 0]
    files = {}
    for part, file in datasets._FASHION_MNIST_FILES.items():
        assert file.name == datasets._MNIST_FILES[part].name
        put(data / file.name, b"MNIST's file of this name")
        content = put(data / "fashion_mnist" / file.name, gzip.compress(idx(np.asarray(arrays[part]))))
        files[part] = with_digest_of(file, content)
    monkeypatch.setattr(datasets, "_FASHION_MNIST_FILES", files)
    found = simulation.load_fashion_mnist()
    for part, array in arrays.items():
        np.testing.assert_array_equal(getattr(found, part), array)
    assert found.train_labels.dtype == np.int32
    path = data / "fashion_mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=f"{path} is damaged"):
        simulation.load_fashion_mnist()


def cifar_archive(records: dict[str, list[tuple[int, np.ndarray]]], cut: int = 0) -> bytes:
    """An archive of the records, each file shorter by `cut` bytes than it should be."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for name, images in {"readme.html": [], **records}.items():
            content = b"".join(bytes([label]) + image.transpose(2, 0, 1).tobytes() for label, image in images)
            content = content[: len(content) - cut]
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


class TestCifar10:
    def records(self) -> dict[str, list[tuple[int, np.ndarray]]]:
        random = np.random.default_rng(0)
        names = [*(f"data_batch_{number}.bin" for number in (1, 2, 3, 4, 5)), "test_batch.bin"]
        return {
            name: [(number, random.integers(0, 256, (32, 32, 3), np.uint8)) for _ in range(2)]
            for number, name in enumerate(names)
        }

    def test_images_have_colours_last(self, data: Path, monkeypatch: pytest.MonkeyPatch):
        records = self.records()
        content = put(data / "cifar10" / "cifar-10-binary.tar.gz", cifar_archive(records))
        monkeypatch.setattr(datasets, "_CIFAR10_FILE", with_digest_of(datasets._CIFAR10_FILE, content))
        found = simulation.load_cifar10()
        train = [image for name, images in records.items() if name.startswith("data") for _, image in images]
        np.testing.assert_array_equal(found.train_images, np.stack(train))
        assert found.train_labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
        np.testing.assert_array_equal(found.test_images, np.stack([image for _, image in records["test_batch.bin"]]))
        assert (found.test_labels.tolist(), found.test_labels.dtype) == ([5, 5], np.int32)

    def test_another_archive_is_refused_by_its_digest(self, data: Path):
        put(data / "cifar-10-binary.tar.gz", cifar_archive(self.records()))
        with pytest.raises(DatasetError, match=f"is damaged.*\n.*\n.*{datasets._CIFAR10_FILE.sha256}"):
            simulation.load_cifar10()

    @pytest.mark.parametrize("fault", ["a file is missing", "half an image", "truncated"])
    def test_a_faulty_archive_is_named(self, data: Path, monkeypatch: pytest.MonkeyPatch, fault: str):
        records = self.records()
        if fault == "a file is missing":
            del records["data_batch_3.bin"]
        content = cifar_archive(records, cut=1000 if fault == "half an image" else 0)
        if fault == "truncated":
            content = content[: len(content) // 2]
        path = data / "cifar-10-binary.tar.gz"
        put(path, content)
        monkeypatch.setattr(datasets, "_CIFAR10_FILE", with_digest_of(datasets._CIFAR10_FILE, content))
        with pytest.raises(DatasetError, match=f"{path} is damaged"):
            simulation.load_cifar10()


def tff_database(splits: dict[str, dict[str, list[dict[str, object]]]]) -> bytes:
    """The content of a database of TensorFlow Federated: `{split: {client: features of examples}}`."""
    train = tensorflow.train
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE examples (split_name TEXT, client_id TEXT, serialized_example_proto BLOB)")
        connection.execute("CREATE TABLE client_metadata (client_id TEXT, split_name TEXT, num_examples INTEGER)")
        for split, clients in splits.items():
            for client, examples in clients.items():
                connection.execute("INSERT INTO client_metadata VALUES (?, ?, ?)", (client, split, len(examples)))
                for example in examples:
                    features = {}
                    for name, value in example.items():
                        if isinstance(value, bytes):
                            features[name] = train.Feature(bytes_list=train.BytesList(value=[value]))
                        elif np.asarray(value).dtype.kind == "f":
                            features[name] = train.Feature(float_list=train.FloatList(value=np.ravel(value)))
                        else:
                            features[name] = train.Feature(int64_list=train.Int64List(value=np.ravel(value)))
                    message = train.Example(features=train.Features(feature=features)).SerializeToString()
                    connection.execute("INSERT INTO examples VALUES (?, ?, ?)", (split, client, message))
        connection.commit()
        return connection.serialize()


class TestFederated:
    def published(self, data: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes) -> Path:
        """The compressed database where it is looked for, taken for the published one."""
        path = data / name / (getattr(federated_datasets, f"_{name.upper()}_FILE").name)
        compressed = put(path, lzma.compress(content, lzma.FORMAT_ALONE))
        file = with_digest_of(getattr(federated_datasets, f"_{name.upper()}_FILE"), compressed)
        monkeypatch.setattr(federated_datasets, f"_{name.upper()}_FILE", file)
        return path

    def test_emnist_is_by_writer(self, data: Path, monkeypatch: pytest.MonkeyPatch):
        random = np.random.default_rng(0)
        writers = {
            writer: [{"pixels": random.random((28, 28), np.float32), "label": label} for label in labels]
            for writer, labels in {"f0001_41": [3, 61], "f0000_14": [7]}.items()
        }
        digits = {"f0000_14": writers["f0000_14"]}
        content = tff_database(
            {"all_train": writers, "all_test": digits, "digits_only_train": digits, "digits_only_test": digits}
        )
        self.published(data, monkeypatch, "emnist", content)
        train, test = simulation.load_emnist()
        assert (list(train.client_ids), list(test.client_ids)) == (["f0000_14", "f0001_41"], ["f0000_14"])
        assert str(train.example_type) == "<x=float32[?,28,28],y=int32[?]>"
        found = train.client("f0001_41")
        np.testing.assert_array_equal(found["x"], [example["pixels"] for example in writers["f0001_41"]])
        assert found["y"].tolist() == [3, 61]
        assert [len(each) for each in simulation.load_emnist(only_digits=True)] == [1, 1]

    def test_cifar100_is_uncompressed_into_the_cache_once(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        image = np.random.default_rng(1).integers(0, 256, (32, 32, 3))
        examples = {"3": [{"image": image, "label": 99, "coarse_label": 19}]}
        content = tff_database({"train": examples, "test": examples})
        path = self.published(data, monkeypatch, "cifar100", content)
        train, _ = simulation.load_cifar100()
        assert str(train.example_type) == "<x=uint8[?,32,32,3],y=int32[?]>"
        np.testing.assert_array_equal(train.client("3")["x"], image[None])
        assert train.client("3")["y"].tolist() == [99]
        path.unlink()
        assert len(simulation.load_cifar100()[1]) == 1
        (kept,) = (tmp_path / "cache" / "cifar100").iterdir()
        assert kept.name.endswith(f"-{hashlib.sha256(content).hexdigest()}.sqlite")
        assert kept.read_bytes() == content

    def test_an_uncompressed_database_that_is_damaged_is_made_anew(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        roles = {"A_B": [{"snippets": b"Howl, howl!"}]}
        path = self.published(data, monkeypatch, "shakespeare", tff_database({"train": roles, "test": roles}))
        want = simulation.load_shakespeare()[0].client("A_B")["x"]
        (kept,) = (tmp_path / "cache" / "shakespeare").iterdir()
        good = kept.read_bytes()
        for place in (100, len(good) // 2, len(good) - 1):
            kept.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
            np.testing.assert_array_equal(simulation.load_shakespeare()[0].client("A_B")["x"], want)
            assert kept.read_bytes() == good
        kept.write_bytes(good[:-1] + b"?")
        path.unlink()
        with pytest.raises(DatasetError, match="is not on this machine"):
            simulation.load_shakespeare()

    @pytest.mark.parametrize("place", ["data", "cache"])
    def test_an_uncompressed_database_of_somebody_else_is_refused(self, data: Path, tmp_path: Path, place: str):
        path = tmp_path / place / "cifar100" / "cifar100.sqlite"
        put(path, tff_database({"train": {"0": []}, "test": {"0": []}}))
        with pytest.raises(DatasetError, match=f"{path} cannot be checked, as it is uncompressed"):
            simulation.load_cifar100()

    def test_a_compressed_database_of_another_digest_is_refused(self, data: Path, tmp_path: Path):
        put(data / "cifar100" / "cifar100.sqlite.lzma", lzma.compress(b"other", lzma.FORMAT_ALONE))
        with pytest.raises(DatasetError, match=r"cifar100\.sqlite\.lzma is damaged"):
            simulation.load_cifar100()
        assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]

    def test_shakespeare_is_by_role(self, data: Path, monkeypatch: pytest.MonkeyPatch):
        roles = {"KING_LEAR_LEAR": [{"snippets": b"Howl, howl!"}, {"snippets": b"Never."}], "A_B": [{"snippets": b"O"}]}
        self.published(data, monkeypatch, "shakespeare", tff_database({"train": roles, "test": roles}))
        train, test = simulation.load_shakespeare(sequence_length=5)
        assert list(test.client_ids) == ["A_B", "KING_LEAR_LEAR"]
        found = train.client("KING_LEAR_LEAR")
        decode = simulation.CharacterCoding().decode
        assert [decode(row) for row in found["x"]] == ["Howl", ", how", "l!", "Neve", "r."]
        assert [decode(row) for row in found["y"]] == ["Howl,", " howl", "!", "Never", "."]
        assert found["y"][2].tolist()[1:] == [2, 0, 0, 0]

    @pytest.mark.parametrize(
        ("load", "name"),
        [
            (simulation.load_emnist, "emnist/emnist_all.sqlite.lzma"),
            (simulation.load_cifar100, "cifar100/cifar100.sqlite.lzma"),
            (simulation.load_shakespeare, "shakespeare/shakespeare.sqlite.lzma"),
            (simulation.load_tiny_shakespeare, "shakespeare/input.txt"),
            (simulation.load_cifar10, "cifar10/cifar-10-binary.tar.gz"),
            (simulation.load_fashion_mnist, "fashion_mnist/train-images-idx3-ubyte.gz"),
        ],
    )
    def test_without_network_the_error_says_where_to_put_what(self, data: Path, load: object, name: str):
        with pytest.raises(DatasetError) as caught:
            load()  # type: ignore[operator]
        folder, file = name.split("/")
        assert f"Get {file} by other means, put it into a folder FOLDER/{folder}/ and set HANSA_DATA_DIR" in str(
            caught.value
        )
        assert str(data) in str(caught.value)


class TestCharacterCoding:
    def test_every_character_is_predicted_once(self):
        coding = simulation.CharacterCoding("abc")
        assert coding.size == 7
        assert coding.encode("cab?").tolist() == [6, 4, 5, 3]
        assert coding.decode([1, 6, 4, 3, 0, 2]) == "ca?"
        found = coding.sequences(["abc", "", "aaaa"], 3)
        assert found["x"].tolist() == [[1, 4, 5], [6, 0, 0], [1, 0, 0], [1, 4, 4], [4, 4, 0]]
        assert found["y"].tolist() == [[4, 5, 6], [2, 0, 0], [2, 0, 0], [4, 4, 4], [4, 2, 0]]
        assert found["x"].dtype == np.int32
        assert coding.sequences([], 3)["x"].shape == (0, 3)

    def test_printable_ascii_has_codes(self):
        coding = simulation.CharacterCoding()
        assert coding.size == 100
        text = "Howl, howl!\nO, you are men of stones: [Enter]"
        assert coding.decode(coding.encode(text)) == text

    def test_a_character_twice_is_refused(self):
        with pytest.raises(ValueError, match="must hold each character once"):
            simulation.CharacterCoding("aba")


class TestTinyShakespeare:
    def test_passages_are_told_apart_by_speaker(self):
        text = "ROMEO:\nIs the day so young?\n\nBENVOLIO:\nBut new\nstruck nine.\n\n\nROMEO:\nAy me!\n\nTYBALT:\n"
        assert federated_datasets.passages_by_speaker(text) == {
            "ROMEO": ["Is the day so young?", "Ay me!"],
            "BENVOLIO": ["But new\nstruck nine."],
        }

    def test_the_real_one_has_every_character_of_its_speakers(self):
        path = (data_dir() or Path("none")) / "shakespeare" / "input.txt"
        if not path.is_file():
            pytest.skip("no tiny Shakespeare; set HANSA_DATA_DIR to a folder with shakespeare/input.txt")
        characters, speaker = Counter[str](), ""
        fresh = True
        for line in path.read_text("utf-8").splitlines():
            if fresh and line.endswith(":"):
                speaker, fresh = line[:-1], False
            elif line:
                characters[speaker] += len(line) + 1
            else:
                fresh = True
        found = simulation.load_tiny_shakespeare(sequence_length=50)
        assert list(found.client_ids) == sorted(characters)
        assert len(found) == 299
        for client in found.client_ids:
            y = found.client(client)["y"]
            # Each line ends in a newline, or, the last of a passage, in the end of the text.
            assert int((y != 0).sum()) == characters[client]
            assert not (y == 3).any()


class TestSynthetic:
    def test_it_is_reproducible_and_does_not_depend_on_who_else_there_is(self):
        few, many = (
            simulation.synthetic(0.5, 0.5, clients=3, seed=1),
            simulation.synthetic(0.5, 0.5, clients=30, seed=1),
        )
        assert str(many.example_type) == "<x=float32[?,60],y=int32[?]>"
        assert len(many) == 30
        for name in ("x", "y"):
            np.testing.assert_array_equal(few.client(2)[name], many.client(2)[name])
        assert not np.array_equal(few.client(2)["x"][:9], simulation.synthetic(0.5, 0.5, 3, seed=2).client(2)["x"][:9])

    def test_sizes_are_fifty_and_log_normal(self):
        sizes = simulation.synthetic(0, 0, clients=400).sizes
        assert sizes.min() >= 50
        logarithms = np.log(sizes - 50 + 0.5)
        assert abs(np.median(logarithms) - 4) < 0.4
        assert abs(logarithms.std() - 2) < 0.3

    def test_examples_have_the_covariance_of_the_paper(self):
        data = simulation.synthetic(0, 1, clients=60)
        centred = [data.client(client)["x"] - data.client(client)["x"].mean(axis=0) for client in data.client_ids]
        rows = np.concatenate(centred)
        variances = (rows**2).sum(axis=0) / (len(rows) - len(centred))
        np.testing.assert_allclose(variances, np.arange(1, 61) ** -1.2, rtol=0.15)
        correlations = np.corrcoef(rows, rowvar=False)
        assert abs(correlations - np.eye(60)).max() < 0.1

    def test_beta_is_how_much_the_means_of_clients_differ(self):
        def spread(beta: float) -> float:
            data = simulation.synthetic(0, beta, clients=300)
            return float(np.std([data.client(client)["x"].mean() for client in data.client_ids]))

        # The mean over 60 features of a client's centre has variance beta² + 1/60.
        assert spread(0) == pytest.approx(np.sqrt(1 / 60), rel=0.2)
        assert spread(2) == pytest.approx(np.sqrt(4 + 1 / 60), rel=0.2)

    def test_labels_are_those_of_a_linear_model_of_the_clients_own(self):
        data = simulation.synthetic(1, 1, clients=8)
        largest = int(data.sizes.argmax())
        examples = data.client(largest)
        model = pytest.importorskip("sklearn.linear_model").LogisticRegression(C=1e3, max_iter=2000)
        assert len(set(examples["y"])) > 1
        assert model.fit(examples["x"], examples["y"]).score(examples["x"], examples["y"]) > 0.95

    @pytest.mark.parametrize(("arguments", "message"), [((-1, 0), "alpha"), ((0, "a"), "beta"), ((0, 0, 0), "clients")])
    def test_wrong_arguments_are_named(self, arguments: tuple[object, ...], message: str):
        with pytest.raises((TypeError, ValueError), match=f"{message} must be"):
            simulation.synthetic(*arguments)  # type: ignore[arg-type]
