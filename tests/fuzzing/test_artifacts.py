"""Files of saved computations, damaged and forged: refused, or loaded and of the types that they say. No crash.

Inputs are made of honest files, one of version 1 among them. Damage is anywhere in a file; forgery is in one part of
it, with the checksums of all made right again. They are loaded from a path or from bytes.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import re
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export, lax

import hansa
from hansa.types import FederatedType, StructType, Type, to_value
from tests.fuzzing.pool import fuzz
from tests.portable.forging import changed, contents, write


def parts(x):
    """Operations of many kinds, without a loop: a damaged one may have no end."""
    whole = x @ x.T + 4 * jnp.eye(4)
    return {
        "linear": [jnp.linalg.cholesky(whole), jnp.linalg.svd(x)[1], jnp.linalg.qr(x)[1], jnp.linalg.eigh(whole)[0]],
        "ordered": [jnp.sort(x, 0), lax.top_k(x, 2)[0], jnp.argsort(x[0])],
        "windows": lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (1, 1), "SAME"),
        "convolved": lax.conv(x[None, None], x[None, None, :3, :3], (1, 1), "SAME"),
        "placed": x.at[jnp.array([1, 1, 3])].add(2.0)[jnp.array([0, 3, 9]), jnp.array([-1, 2, 2])],
        "spectrum": jnp.abs(jnp.fft.rfft(x)),
        "table": x @ jnp.asarray(np.arange(20, dtype=np.float32).reshape(4, 5)),
    }


@hansa.federated_computation("{float32[4,4]}@CLIENTS", "float32@SERVER")
def many_kinds(value, factor):
    done = hansa.federated_map(hansa.jax_computation(parts), value)
    largest = hansa.federated_max(hansa.federated_map(hansa.jax_computation(lambda x: x.max()), value))
    scaled = hansa.federated_map(hansa.jax_computation(lambda a, b: a * b), [largest, factor])
    return {"sum": hansa.federated_sum(done), "scaled": scaled, "note": "text", "numbers": [1, 2.5]}


@hansa.federated_computation("{float32[?,3,3]}@CLIENTS")
def any_number(value):
    work = hansa.jax_computation(lambda x: jnp.linalg.cholesky(x @ jnp.swapaxes(x, 1, 2) + jnp.eye(3)).mean(0))
    return hansa.federated_mean(hansa.federated_map(work, value))


def averaging():
    def forward(weights, batch, training, rng):
        error = batch.x @ weights["slope"] - batch.y
        return hansa.learning.BatchOutput(jnp.mean(error**2), error)

    model = hansa.learning.functional_model(
        {"slope": np.zeros(2, np.float32)},
        forward,
        input_spec="<x=float32[?,2],y=float32[?]>",
        optimizer=optax.sgd(0.1),
    )
    return hansa.learning.build_federated_averaging_process(model)


def explained(computation: Any) -> Any:
    """The computation, of which `explain` can tell something."""
    assert str(hansa.explain(computation))
    return computation


def device_stage():
    with tempfile.TemporaryDirectory() as folder:
        hansa.save(many_kinds, Path(folder) / "whole.hansa", platforms=("cpu",))
        return hansa.load_client_stage(Path(folder) / "whole.hansa")


def contributions(stage: Any) -> Type:
    return StructType([(None, StructType([(None, port.type) for port in part.values])) for part in stage.contributions])


def prepared(stage: Any) -> Any:
    stage.prepare()
    return stage


OLD = Path(__file__).parents[1] / "compiler" / "artifacts" / "version_1" / "two_stages.hansa"
RNG = np.random.default_rng(0)
MATRICES = [RNG.normal(size=(4, 4)).astype(np.float32) for _ in range(2)]
BATCHES = [RNG.normal(size=(3, 3, 3)).astype(np.float32) for _ in range(2)]

CALLS: list[tuple[str, Callable[[], Any], Callable[[Any], tuple[Any, Type]]]] = [
    ("kinds", lambda: many_kinds, lambda f: (explained(f)(MATRICES, 2.0), f.type_signature.result)),
    ("any number", lambda: any_number, lambda f: (explained(f)(BATCHES), f.type_signature.result)),
    ("averaging", averaging, lambda p: (p.initialize(), p.initialize.type_signature.result)),
    ("a device's", device_stage, lambda s: (prepared(s).work([], MATRICES[:1]).contributions, contributions(s))),
    ("version 1", lambda: OLD, lambda f: (explained(f)([np.ones(2, np.float32)] * 3, 2.0), f.type_signature.result)),
]

RIGHT = (hansa.ArtifactError, TypeError, ValueError, jax.errors.JaxRuntimeError)
"""What the call of a loaded forgery may raise: its types are not those of the arguments, or XLA does not compile it."""


@functools.cache
def honest(which: int) -> tuple[bytes, dict[str, Any], dict[str, bytes]]:
    """The bytes of an honest file, its manifest and its entries."""
    with tempfile.TemporaryDirectory() as folder:
        path, value = Path(folder) / "honest.hansa", CALLS[which][1]()
        if isinstance(value, Path):
            path = value
        else:
            hansa.save(value, path, platforms=("cpu",))
        return path.read_bytes(), *contents(path)


def attempt(random: Random, folder: Path) -> str:
    which = random.randrange(len(CALLS))
    path = folder / "forged.hansa"
    data, manifest, entries = honest(which)
    manifest, entries = json.loads(json.dumps(manifest)), dict(entries)
    way = random.choice(WAYS)
    if way is damage:
        path.write_bytes(damaged(random, data))
    elif way is archives:
        path.write_bytes(relabelled(random, data))
    elif way(random, manifest, entries) is None:
        write(path, manifest, entries)
        if way is lists:
            path.write_bytes(unlisted(random, path))
    else:
        return "no input"
    kind = random.choice((Path, bytes, bytearray, memoryview))
    given = path if kind is Path else kind(path.read_bytes())
    said = str(path) if kind is Path else "the given data"
    described(given, said)
    try:
        loaded = hansa.load(given)
    except hansa.ArtifactError as error:
        assert said in str(error)
        return f"{way.__name__}: refused"
    try:
        value, kind = CALLS[which][2](loaded)
    except AttributeError as error:
        assert "initialize" in str(error) or "type_signature" in str(error), error  # of another class
        return f"{way.__name__}: of another class"
    except RIGHT:
        return f"{way.__name__}: refused at the call"
    assert_of(value, kind)
    return f"{way.__name__}: called"


def described(given: Any, said: str) -> None:
    """Looks at what the manifest says of stages: all of it, or the file is refused."""
    try:
        ports = hansa.load_ports(given)
    except hansa.ArtifactError as error:
        assert said in str(error)
    except KeyError as error:
        assert "has no computation 'next'" in str(error)
    else:
        assert all(isinstance(port.type, Type) for stage in ports.servers for port in (*stage.inputs, *stage.outputs))
        for stage in ports.clients:
            given_each = [port for fold in stage.aggregates for port in (*fold.contributions, fold.result)]
            ports_each = (*stage.broadcasts, *stage.inputs, *stage.kept, *stage.collected, *given_each)
            assert all(isinstance(port.type, Type) and isinstance(port.name, str) for port in ports_each)


def assert_of(value: Any, kind: Type) -> None:
    """Whether a result is of the type that it should be of."""
    member = (
        StructType([(name, of_member(field)) for name, field in kind.fields]) if isinstance(kind, StructType) else kind
    )
    to_value(value, of_member(member))


def of_member(kind: Type) -> Type:
    return kind.member if isinstance(kind, FederatedType) else kind


def damage(random: Random, manifest: Any, entries: Any) -> None:
    """Bytes anywhere in the file."""


def damaged(random: Random, data: bytes) -> bytes:
    """The bytes after a few changes: one of other bits, some of others, some fewer, some more, some twice, an end."""
    new = bytearray(data)
    for _ in range(random.randint(1, 4)):
        i, n = random.randrange(len(new)), random.randint(1, 12)
        match random.randrange(8):
            case 0 | 1 | 2:
                new[i] ^= 1 << random.randrange(8)
            case 3:
                new[i : i + n] = random.randbytes(n)
            case 4:
                del new[i : i + n]
            case 5:
                new[i:i] = random.randbytes(n)
            case 6:
                j = random.randrange(len(new))
                new[i : i + n] = new[j : j + n]
            case 7 if random.randrange(4) == 0:
                del new[max(i, 1) :]
    return bytes(new) or b"\0"


def swap(random: Random, manifest: dict[str, Any], entries: dict[str, bytes]) -> None:
    """Functions and arrays in each other's places."""
    part = "programs" if "programs" in manifest else "stage"
    text = json.dumps(manifest[part])
    for _ in range(random.randint(1, 3)):
        a, b = random.choice(list(entries)), random.choice(list(entries))
        text = text.replace(a, "?").replace(b, a).replace("?", b)
    manifest[part] = json.loads(text)


def manifests(random: Random, manifest: dict[str, Any], entries: dict[str, bytes]) -> None:
    """Other values in the manifest."""
    for _ in range(random.randint(1, 3)):
        places = list(walk(manifest))
        holder, key = random.choice(places)
        match random.randrange(5):
            case 0:
                holder.pop(key)
            case 1:
                other, name = random.choice(places)
                if name in other or (isinstance(other, list) and name < len(other)):
                    holder[key] = json.loads(json.dumps(other[name]))
            case 2:
                holder[key] = random.choice([None, True, 0, -1, 7, 1 << 70, 1.5, "", "text", [], {}, [[]], {"a": 1}])
            case 3 if isinstance(holder[key], str):
                holder[key] = damaged(random, holder[key].encode() or b"a").decode(errors="replace")
            case 4 if isinstance(holder, list):
                holder.insert(random.randrange(len(holder) + 1), holder[key])


def walk(value: Any):
    """Each place in a value of JSON: what it is in, and its key there."""
    pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for key, inner in pairs:
        yield value, key
        if isinstance(inner, dict | list):
            yield from walk(inner)


def functions(random: Random, manifest: dict[str, Any], entries: dict[str, bytes]) -> None:
    """Other bytes of a serialized function."""
    name = one_function(random, entries)
    replace(manifest, entries, name, damaged(random, entries[name]))


def bytecode(random: Random, manifest: dict[str, Any], entries: dict[str, bytes]) -> None:
    """Other bytes of a function's StableHLO."""
    name = one_function(random, entries)
    found = export.deserialize(bytearray(entries[name]))
    new = dataclasses.replace(found, mlir_module_serialized=damaged(random, found.mlir_module_serialized))
    replace(manifest, entries, name, bytes(new.serialize()))


def texts(random: Random, manifest: dict[str, Any], entries: dict[str, bytes]) -> str | None:
    """Other words and numbers in a function's StableHLO, where MLIR still reads it."""
    name = one_function(random, entries)
    found = export.deserialize(bytearray(entries[name]))

    def change(text: str) -> str:
        for _ in range(random.randint(1, 3)):
            spot = random.choice(list(re.finditer(r"stablehlo\.\w+|\b-?\d+\b|%\w+|\btrue\b|\bfalse\b", text)))
            word = spot[0]
            if word.startswith("stablehlo"):
                new = random.choice(re.findall(r"stablehlo\.\w+", text))
            elif word.startswith("%"):
                new = random.choice(re.findall(r"%\w+", text))
            elif word in ("true", "false"):
                new = {"true": "false", "false": "true"}[word]
            else:
                new = str(random.choice([0, 1, 2, 3, 5, -1, 7, 64, 1 << 31, 1 << 62, 255, int(word) + 1]))
            text = text[: spot.start()] + new + text[spot.end() :]
        return text

    for _ in range(20):
        try:
            new = changed(found, change)
        except Exception:  # which is MLIR's
            continue
        replace(manifest, entries, name, bytes(new.serialize()))
        return None
    return "no input"


def arrays(random: Random, manifest: dict[str, Any], entries: dict[str, bytes]) -> str | None:
    """Other sizes, kinds of numbers and elements of an array: mostly in what it says of itself."""
    names = [name for name in entries if name.startswith("arrays/")]
    if not names:
        return "no input"
    name = random.choice(names)
    data = entries[name]
    match random.randrange(4):
        case 0:
            header, rest = bytearray(data[:128]), data[128:]
            spot = random.choice(list(re.finditer(rb"\d+|<\w+|\||False|,", bytes(header[10:]))))
            new = random.choice([b"0", b"9" * 18, b"-1", b"<f8", b"<i2", b"|O", b"|V0", b"True", b"<U4", b"", b"1e9"])
            header[10 + spot.start() : 10 + spot.end()] = new
            changed_data = bytes(header[:127].ljust(127)) + b"\n" + rest
        case 1:
            changed_data = data[: random.randrange(len(data))]
        case 2:
            changed_data = data + random.randbytes(random.choice([1, 4, 4096]))
        case _:
            changed_data = damaged(random, data)
    replace(manifest, entries, name, changed_data)
    return None


def lists(random: Random, manifest: dict[str, Any], entries: dict[str, bytes]) -> None:
    """Other sizes and checksums of entries in the manifest: see `unlisted`."""


def unlisted(random: Random, path: Path) -> bytes:
    """A file whose manifest lies about what is in it."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(parts["manifest.json"])
    listed = manifest["entries"]
    name = random.choice(list(listed))
    match random.randrange(5):
        case 0:
            listed[name]["size"] = random.choice([0, -1, 1 << 60, listed[name]["size"] + 1, True, None, "9"])
        case 1:
            listed[name]["sha256"] = random.choice(["", None, "0" * 64, listed[random.choice(list(listed))]["sha256"]])
        case 2:
            listed[name] = random.choice([None, [], {}, 7])
        case 3:
            del listed[name]
        case _:
            listed["arrays/" + "0" * 64 + ".npy"] = listed[name]
    parts["manifest.json"] = json.dumps(manifest).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for part, data in parts.items():
            archive.writestr(part, data)
    return buffer.getvalue()


def archives(random: Random, manifest: dict[str, Any], entries: dict[str, bytes]) -> None:
    """Other numbers in the archive's own headers: see `relabelled`."""


def relabelled(random: Random, data: bytes) -> bytes:
    """Bytes in which offsets, sizes and lengths of names lie: in headers of entries, in the directory, at its end."""
    new = bytearray(data)
    fields = {
        b"PK\1\2": [(8, "H"), (10, "H"), (16, "I"), (20, "I"), (24, "I"), (28, "H"), (30, "H"), (32, "H"), (42, "I")],
        b"PK\3\4": [(6, "H"), (8, "H"), (18, "I"), (22, "I"), (26, "H"), (28, "H")],
        b"PK\5\6": [(8, "H"), (10, "H"), (12, "I"), (16, "I"), (20, "H")],
    }
    places = [found.start() for found in re.finditer(re.escape(b"PK\3\4"), data)]
    for _ in range(random.randint(1, 3)):
        signature = random.choice([b"PK\1\2", b"PK\1\2", b"PK\3\4", b"PK\5\6"])
        begin = random.choice([found.start() for found in re.finditer(re.escape(signature), data)])
        offset, code = random.choice(fields[signature])
        (now,) = struct.unpack_from("<" + code, new, begin + offset)
        value = random.choice([0, 1, now + 1, now * 2, len(data), 0xFFFFFFFF, 0x7FFFFFFF, now - 1, *places])
        struct.pack_into("<" + code, new, begin + offset, value % (1 << (16 if code == "H" else 32)))
    return bytes(new)


def one_function(random: Random, entries: dict[str, bytes]) -> str:
    return random.choice([name for name in entries if name.startswith("functions/")])


def replace(manifest: dict[str, Any], entries: dict[str, bytes], name: str, data: bytes) -> None:
    """Puts a function, or an array, in the place of another one."""
    folder, ending = name.split("/")[0], name.split(".")[-1]
    new = f"{folder}/{hashlib.sha256(data).hexdigest()}.{ending}"
    part = "programs" if "programs" in manifest else "stage"
    manifest[part] = json.loads(json.dumps(manifest[part]).replace(name, new))
    del entries[name]
    entries[new] = data


WAYS = (
    damage, swap, manifests, manifests, functions, functions, bytecode, bytecode, texts, arrays, lists, archives,
    archives,
)  # fmt: skip


def test_damaged_and_forged_files() -> None:
    outcomes = fuzz(attempt, 16)
    assert sum(count for outcome, count in outcomes.items() if "refused" in outcome) > 7, outcomes


@pytest.mark.parametrize(
    "inputs", [pytest.param(150, marks=pytest.mark.slow), pytest.param(1500, marks=pytest.mark.whole)]
)
def test_many_damaged_and_forged_files(inputs: int) -> None:
    outcomes = fuzz(attempt, inputs, seed=1, processes=2)
    assert sum(count for outcome, count in outcomes.items() if "refused" in outcome) > 0.45 * inputs, outcomes
    assert sum(count for outcome, count in outcomes.items() if "called" in outcome) > 0.06 * inputs, outcomes
