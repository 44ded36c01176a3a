"""Ways to damage bytes, JSON and what is at a path, of which an attempt draws some."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from random import Random
from typing import Any

ODD_BYTES = [b"\n", b'"', b",", b"{", b"[" * 5000, b"\r", b"\xff", b"\xef\xbb\xbf", b"\n\n"]
ODD_TEXTS = [
    "", "\0", "\ud800", "\x1b]0;t\x07", "\u2028", "[/x]", "1e999", "é" * 50, "x" * 70_000, "../..", "nan", "<script>",
]  # fmt: skip
ODD_VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 2, 3, 4, 5, 1.5, float("inf"), float("nan"), 10**400, 2**63, 2**53, -(2**31), 10**15,
    [], {}, [[]], [None], {"": {}}, *ODD_TEXTS,
]  # fmt: skip


def damaged_bytes(random: Random, data: bytes) -> bytes:
    """Bytes with some of them flipped, cut off, put in, zeroed, doubled or exchanged."""
    found = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 5])):
        at = random.randrange(len(found) + 1)
        length = random.choice([1, 2, 8, 64, 512])
        match random.randrange(8):
            case 0:
                for place in range(at, min(at + 1, len(found))):
                    found[place] ^= 1 << random.randrange(8)
            case 1:
                del found[at:]
            case 2:
                found[at:at] = random.randbytes(length)
            case 3:
                found[at : at + length] = bytes(length)
            case 4:
                found[at:at] = found[at : at + length]
            case 5:
                del found[at : at + length]
            case 6:
                found[at:at] = random.choice(ODD_BYTES)
            case 7:
                found += random.choice([bytes(512), b"\n", bytes(64) + b"\n", b"{}\n", b"garbage"])
    return bytes(found)


def damaged_json(random: Random, value: Any) -> Any:
    """A value of JSON in which one is another, is not there, or is there twice."""
    if not isinstance(value, dict | list) or not value or random.random() < 0.15:
        return odd_value(random)
    key = random.choice(list(value) if isinstance(value, dict) else range(len(value)))
    changed: Any = value.copy()
    kind = random.random()
    if kind < 0.15:
        del changed[key]
    elif kind < 0.25 and isinstance(changed, list):
        changed.append(changed[key])
    elif kind < 0.25:
        changed[str(odd_value(random))[:100]] = odd_value(random)
    else:
        changed[key] = damaged_json(random, value[key])
    return changed


def odd_value(random: Random) -> Any:
    """A value that is hardly ever the right one; now and then nested deep."""
    value = random.choice(ODD_VALUES)
    if random.random() < 0.1:
        for _ in range(random.choice([3, 60, 400])):
            value = [value] if random.random() < 0.5 else {"a": value}
    return value


def damaged_lines(random: Random, data: bytes) -> bytes:
    """Lines of JSON in which a value of one is another."""
    lines = data.splitlines()
    at = random.randrange(len(lines))
    lines[at] = json.dumps(damaged_json(random, json.loads(lines[at]))).encode()
    if random.random() < 0.2:
        lines.append(random.choice(lines))
    return b"\n".join(lines) + b"\n"


def put_in_its_place(random: Random, path: Path) -> None:
    """Something else at a path: a folder, a FIFO, a link to nothing, to itself, to a device, to a file; or nothing.

    The file is `precious`, beside the folder.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    match random.randrange(7):
        case 0:
            path.mkdir()
        case 1:
            os.mkfifo(path)
        case 2:
            path.symlink_to("/nowhere/at/all")
        case 3:
            path.symlink_to(path)
        case 4:
            path.symlink_to("/dev/zero")
        case 5:
            path.symlink_to(path.parent.parent / "precious")
