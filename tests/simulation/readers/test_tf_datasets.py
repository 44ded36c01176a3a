"""A `tf.data.Dataset` for each client."""

from typing import Any

import numpy as np
import pytest

from hansa.simulation import from_tf_datasets

tensorflow = pytest.importorskip("tensorflow")
Dataset = tensorflow.data.Dataset


def test_datasets_of_dicts_are_read_when_a_client_is_wanted():
    runs: list[str] = []

    def examples(client: str, count: int) -> Any:
        def generate() -> Any:
            runs.append(client)
            yield from ({"x": np.full(3, i, np.float32), "y": i} for i in range(count))

        signature = {
            "x": tensorflow.TensorSpec(3, tensorflow.float32),
            "y": tensorflow.TensorSpec((), tensorflow.int32),
        }
        return Dataset.from_generator(generate, output_signature=signature)

    data = from_tf_datasets({"ann": examples("ann", 2), "bo": examples("bo", 1500)})
    assert (list(data.client_ids), runs) == (["ann", "bo"], [])
    found = data.client("bo")
    assert runs == ["bo"]
    assert (found["x"].shape, found["x"].dtype, found["y"].dtype) == ((1500, 3), np.float32, np.int32)
    np.testing.assert_array_equal(found["y"], np.arange(1500))
    np.testing.assert_array_equal(found["x"][:, 2], np.arange(1500))
    assert data.sizes.tolist() == [2, 1500]


def test_tuples_and_tensors_get_names():
    pairs = Dataset.from_tensor_slices((np.eye(3, dtype=np.float32), np.arange(3)))
    assert list(from_tf_datasets({0: pairs}).client(0)) == ["x", "y"]
    named = from_tf_datasets(lambda client: pairs.take(client), [1, 2], names=["image", "label"])
    assert named.client(2)["label"].tolist() == [0, 1]
    assert from_tf_datasets({0: Dataset.range(4)}).client(0)["x"].tolist() == [0, 1, 2, 3]


def test_a_dataset_without_examples_has_arrays_of_none():
    empty = Dataset.from_tensor_slices((np.zeros((2, 3), np.float32), np.zeros(2, np.int32))).take(0)
    found = from_tf_datasets({0: empty}).client(0)
    assert (found["x"].shape, found["x"].dtype, found["y"].dtype) == ((0, 3), np.float32, np.int32)


def test_batches_and_endless_datasets_are_refused():
    numbers = Dataset.from_tensor_slices({"x": np.arange(4)})
    with pytest.raises(ValueError, match=r"the dataset of client 'a' has batches.*\.unbatch\(\)"):
        from_tf_datasets({"a": numbers.batch(2)})
    with pytest.raises(ValueError, match=r"the dataset of client 'a' does not end; leave out \.repeat\(\)"):
        from_tf_datasets({"a": numbers.repeat()}).client("a")


def test_examples_of_different_shapes_are_refused():
    ragged = Dataset.from_generator(
        lambda: iter([np.zeros(1), np.zeros(2)]), output_signature=tensorflow.TensorSpec([None], tensorflow.float64)
    ).map(lambda x: {"x": x, "y": 0})
    with pytest.raises(ValueError, match=r"the examples of client 'a' have different shapes.*pad or crop them to one"):
        from_tf_datasets({"a": ragged}).client("a")


def test_other_arguments_are_refused():
    with pytest.raises(TypeError, match=r"datasets must be a dict from client ids to tf.data.Datasets, or a function"):
        from_tf_datasets([Dataset.range(3)])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"client 'a' must have a tf.data.Dataset; found a list of length 2"):
        from_tf_datasets({"a": [1, 2]})
    with pytest.raises(TypeError, match="with a function, give client_ids too"):
        from_tf_datasets(lambda client: Dataset.range(3))
    with pytest.raises(ValueError, match="datasets is empty"):
        from_tf_datasets({})
    with pytest.raises(ValueError, match=r"have 2 tensors, but names are \['x'\]; name each"):
        from_tf_datasets({"a": Dataset.from_tensor_slices((np.arange(2), np.arange(2)))}, names=["x"])
