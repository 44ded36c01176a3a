"""Values as bytes and back, and bytes that are not what is declared: by the library of the layout, and damaged."""

from __future__ import annotations

import hashlib
import json
import struct

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

import hansa
from hansa.compiler.artifacts.device import Contribution
from hansa.compiler.artifacts.ports import Port
from hansa.language.terms import Terms
from hansa.network import wire
from hansa.network.boundary import Boundary, DamagedError, InvalidError
from hansa.types import dtypes

SORTS = [name for name in dtypes.DTYPES if name != "str"]


def ports_of(**kinds):
    return [Port(name, hansa.to_type(kind)) for name, kind in kinds.items()]


def joined(ports, values):
    return b"".join(wire.encoded(ports, values))


@pytest.mark.parametrize("dtype", SORTS)
@settings(max_examples=12)
@given(data=st.data())
def test_values_of_every_dtype_come_back_with_their_bits(dtype, data):
    shape = data.draw(hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
    kind = np.dtype(dtypes.DTYPES[dtype])
    count = int(np.prod(shape)) * kind.itemsize
    raw = data.draw(st.binary(min_size=count, max_size=count))
    array = np.frombuffer(bytes(b & 1 for b in raw) if dtype == "bool" else raw, kind).reshape(shape)
    ports = [Port("a", hansa.TensorType(kind, list(shape))), Port("b", hansa.TensorType(kind, [None] * len(shape)))]
    for found in wire.decoded(ports, joined(ports, [array, array])):
        assert np.asarray(found).tobytes() == array.tobytes() and np.shape(found) == shape


def test_structs_come_back_as_such_and_the_library_of_the_layout_reads_them():
    ports = ports_of(update="<w=float32[2,3],b=<float32,float16[2]>>", weight="int32")
    value = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": [1.5, np.array([1, 2], np.float16)]}
    data = joined(ports, [value, 7])
    update, weight = wire.decoded(ports, data)
    assert update.w.tolist() == [[0, 1, 2], [3, 4, 5]] and update.b[0] == 1.5 and weight == 7
    others = safetensors.numpy.load(data)
    assert sorted(others) == ["update/b/0", "update/b/1", "update/w", "weight"]
    assert others["update/w"].tobytes() == update.w.tobytes()
    assert data == joined(ports, [value, 7])


def test_what_does_not_travel_is_refused_by_name():
    with pytest.raises(TypeError, match="'data' is of type float32\\*, and only tensors"):
        wire.declared(ports_of(data="float32*"))
    with pytest.raises(TypeError, match="'who' of type str has strings"):
        wire.declared(ports_of(who="str"))
    with pytest.raises(TypeError, match="float32"):
        wire.encoded(ports_of(x="float32[2]"), [np.zeros(3, np.float32)])


PORTS = ports_of(update="<w=float32[2,3],b=float32[?]>", weight="int32")
GOOD = joined(PORTS, [{"w": np.ones((2, 3), np.float32), "b": np.ones(4, np.float32)}, 5])


@given(st.data())
def test_damaged_bytes_are_refused_as_such_or_are_other_numbers(data):
    damaged = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1)) if damaged else 0
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "repeat"]))
        if kind == "flip" and damaged:
            damaged[place] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            del damaged[place:]
        elif kind == "insert":
            damaged[place:place] = data.draw(st.binary(max_size=9))
        else:
            damaged[place:place] = damaged[:place]
    try:
        update, _ = wire.decoded(PORTS, bytes(damaged))
    except wire.WireError:
        return
    assert update.w.shape == (2, 3) and len(damaged) >= len(GOOD) - 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.pop("weight"), "the header has 'update/w', 'update/b' in place of"),
        (lambda h: h["weight"].update(dtype="F32"), "'weight' is .* and is declared as int32"),
        (lambda h: h["update/w"].update(shape=[3, 2]), r"has the shape \[3, 2\], and is declared as float32\[2, 3\]"),
        (lambda h: h["update/b"].update(shape=[True]), "has the shape"),
        (lambda h: h["update/b"].update(shape=[-4]), "has the shape"),
        (lambda h: h["update/b"].update(shape=[10**15]), "'update/b' is"),
        (lambda h: h["weight"].update(data_offsets=[0, 4]), "'weight' is"),
        (lambda h: h["weight"].update(more=1), "'weight' is"),
        (lambda h: h.update(weight=[1]), r"'weight' is \[1\], and is declared as int32"),
    ],
)
def test_a_header_that_says_anything_else_is_refused(change, message):
    (size,) = struct.unpack("<Q", GOOD[:8])
    header = json.loads(GOOD[8 : 8 + size])
    change(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    with pytest.raises(wire.WireError, match=message):
        wire.decoded(PORTS, struct.pack("<Q", len(text)) + text + GOOD[8 + size :])


def test_a_header_is_not_read_that_is_longer_than_it_can_be():
    with pytest.raises(wire.WireError, match="more than that of what is declared"):
        wire.header_size(struct.pack("<Q", 2**40), wire.declared(PORTS))
    with pytest.raises(wire.WireError, match="no JSON"):
        wire.decoded(PORTS, struct.pack("<Q", 200) + b"[" * 200)


MEAN = Contribution(
    "federated_mean", tuple(ports_of(update="<w=float32[3],n=complex64>", weight="float32")), Terms("each", 10.0, 100.0)
)
MOST = Contribution("federated_max", tuple(ports_of(most="float32")))
FLAGS = Contribution("federated_aggregate", tuple(ports_of(seen="bool[2]")))


def checked(w=(1, 2, 3), n=0j, weight=2.0, most=np.inf, digest=None, change=lambda data: data):
    boundary = Boundary([MEAN, MOST, FLAGS])
    value = {"w": np.array(w, np.float32), "n": np.complex64(n)}
    data = change(joined(boundary.ports, [value, np.float32(weight), np.float32(most), np.array([True, False])]))
    boundary.check(data, digest or hashlib.sha256(data).hexdigest())


def test_a_right_contribution_passes_and_an_extreme_may_be_infinite():
    checked()
    checked(w=(10, 0, 0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"w": (1, np.nan, 3)}, "update/w is not all finite"),
        ({"n": complex(0, np.inf)}, "update/n is not all finite"),
        ({"w": (1e30, 0, 0)}, r"the norm 1e\+30 is more than max_norm=10"),
        ({"w": (10.001, 0, 0)}, "the norm 10.001 is more than max_norm=10"),
        ({"weight": -1}, "the weight weight is -1, and a weight is 0 or more"),
        ({"weight": np.nan}, "a weight is 0 or more"),
        ({"weight": 101}, "the weight weight is 101, more than max_weight=100"),
        ({"change": lambda data: data[:-1] + b"\x02"}, "seen has bytes that are neither true nor false"),
        ({"change": lambda data: data[:-3]}, "the header says"),
        ({"change": lambda data: data + bytes(10**4)}, "bytes are more than the"),
        ({"change": lambda data: b""}, "bytes fewer than"),
    ],
)
def test_a_wrong_one_is_invalid_and_told_why(wrong, message):
    with pytest.raises(InvalidError, match=message):
        checked(**wrong)


def test_bytes_of_another_digest_are_damage_whatever_else_is_wrong_with_them():
    for change in (lambda data: data, lambda data: data[:20]):
        with pytest.raises(DamagedError, match="send them again"):
            checked(w=(np.nan, 0, 0), digest="0" * 64, change=change)


def test_numbers_whose_squares_are_beyond_float64_are_finite_all_the_same():
    boundary = Boundary([Contribution("federated_sum", tuple(ports_of(x="float64")))])
    data = joined(boundary.ports, [1e200])
    boundary.check(data, hashlib.sha256(data).hexdigest())
