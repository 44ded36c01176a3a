"""What the driver does without a cluster: dealing clients out, and telling of arrays that are in files."""

from __future__ import annotations

from collections import deque

import jax.numpy as jnp
import numpy as np
import pytest

import hansa

pytest.importorskip("ray")

from hansa.runtimes import leaves
from hansa.runtimes.ray import dealing, populations, wire
from hansa.runtimes.ray.stored import Store
from hansa.types.examples import Examples


@pytest.mark.parametrize("workers", [1, 3, 16])
def test_pieces_are_all_clients_once_and_the_largest_come_first(workers):
    work = np.random.default_rng(0).integers(1, 500, 1000)
    found = dealing.pieces(work, workers)
    assert sorted(np.concatenate([piece.positions for piece in found])) == list(range(1000))
    sizes = [piece.work for piece in found]
    assert sizes == sorted(sizes, reverse=True) and len(found) == 8 * workers
    assert all(piece.work == work[piece.positions].sum() for piece in found)


@pytest.mark.parametrize("clients", [1, 16, 17, 83, 1000])
def test_blocks_merge_to_the_tree_of_leaves(clients):
    def whole(states):
        return leaves.merged(states, lambda a, b: (a, b))

    def by_level(states):
        while len(states) > 1:
            pairs = [(a, b) for a, b in zip(states[::2], states[1::2], strict=False)]
            states = [*pairs, *states[2 * len(pairs) :]]
        return states[0]

    found = dealing.blocks(np.ones(clients, np.int64), 2)
    ends = [piece.positions[-1] for piece in found]
    assert np.array_equal(np.concatenate([piece.positions for piece in found]), np.arange(clients))
    firsts = [list(piece.positions[::16] // 16) for piece in found]
    assert by_level([whole(block) for block in firsts]) == whole(list(range(-(-clients // 16))))
    assert [piece.number for piece in found] == list(range(len(ends)))


def test_a_short_stage_is_one_call_for_each_worker_and_a_long_one_ends_in_small_ones():
    def calls(pace):
        queue = dealing.Queue(deque(dealing.pieces(np.full(64, 10), 2)))
        found = []
        while queue:
            found.append(sum(piece.work for piece in queue.take(2 - len(found) % 2, 2, pace)))
        return found

    assert calls(pace=1e-6) == [640]  # which takes less time than to tell a second worker
    assert calls(pace=1e-4) == [320, 320]
    long = calls(pace=1.0)
    assert sum(long) == 640 and long == sorted(long, reverse=True) and long[-1] == 40


def test_rows_of_a_file_are_opened_where_they_are_and_another_file_is_refused(tmp_path):
    array = np.arange(60, dtype=np.float32).reshape(20, 3)
    np.save(tmp_path / "x.npy", array)
    part = np.load(tmp_path / "x.npy", mmap_mode="r")[5:]
    told = populations.described(Examples({"x": part}))
    known = populations.Populations()
    known.learn("one", told)
    assert np.array_equal(known.examples("one").rows.x, array[5:])
    assert known.examples("one").on_disk
    np.save(tmp_path / "x.npy", array[:19])
    with pytest.raises(ValueError, match="is another file at this worker than at the driver"):
        populations.Populations().learn("one", told)
    (tmp_path / "x.npy").unlink()
    with pytest.raises(ValueError, match="which this worker cannot open"):
        populations.Populations().learn("one", told)


def test_arrays_that_are_sent_together_are_the_same_again():
    given = [
        np.arange(5, dtype=np.uint32),
        np.float64(2.5),
        np.zeros((0, 3), np.float32),
        np.arange(40_000, dtype=np.float32).reshape(200, 200),
        jnp.ones((3, 2), jnp.bfloat16),
        jnp.ones((300, 200), jnp.bfloat16),
    ]
    shapes, whole, large = wire.together(given)
    assert whole.dtype == np.uint8 and whole.nbytes <= 4 * 64
    assert [part.nbytes for part in large] == [160_000, 120_000]
    assert np.shares_memory(large[0], given[3])
    for before, after in zip(given, wire.apart((shapes, whole, large)), strict=True):
        assert (np.shape(before), np.asarray(before).dtype) == (after.shape, after.dtype)
        assert np.asarray(before).tobytes() == after.tobytes()


def test_wrong_arguments_are_named_before_ray_starts():
    with pytest.raises(ValueError, match="workers must be a positive number of processes; found 0"):
        hansa.RayRuntime(workers=0)
    with pytest.raises(ValueError, match="mixed must be 'refuse' or 'warn'"):
        hansa.RayRuntime(mixed="allow")
    with pytest.raises(TypeError, match="resources must be a dict of a Ray actor's options"):
        hansa.RayRuntime(resources="gpu")


def test_it_is_said_once_that_many_examples_go_through_the_driver(recwarn):
    store = Store()
    store.count_sent(1000)
    assert not recwarn
    store.count_sent(50_000_000)
    store.count_sent(50_000_000)
    (said,) = recwarn
    assert "sends 50 MB of them to workers" in str(said.message)
