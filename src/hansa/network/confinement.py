"""What a process takes from itself, for good, before it runs programs of others: the network, and more than its share.

On Linux the kernel refuses it system calls (seccomp): no sockets, and no look into other processes, whose sockets and
keys it could use. No rights are needed for that. Elsewhere only limits are set, as far as the system has them.
"""

from __future__ import annotations

import ctypes
import errno
import math
import platform
import struct
import sys
import time
from pathlib import Path

_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2
"""Of prctl."""
_LOAD, _IS, _AT_LEAST, _GIVE = 0x20, 0x15, 0x35, 0x06
"""Of the kernel's programs that filter: load a word, skip lines if it is not a number, or less than one, and answer."""
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_NUMBER, _ARCHITECTURE = 0, 4
"""Where the words are of what is called."""

_CALLS: dict[str, tuple[int, tuple[int, ...]]] = {
    # The kernel's number of the architecture, and of socket, ptrace, process_vm_readv, process_vm_writev.
    "x86_64": (0xC000003E, (41, 101, 310, 311)),
    "aarch64": (0xC00000B7, (198, 117, 270, 271)),
}
_CALLS_OF_ALL = (425, 426, 427, 438)
"""io_uring_setup, io_uring_enter and io_uring_register, by which sockets can be made, too; pidfd_getfd."""
_SECOND = 0x40000000
"""From this number on, x86-64 has its calls a second time."""


def without_network() -> bool:
    """Takes sockets from this process and all that it starts; says whether they are. It must have one thread yet."""
    known = _CALLS.get(platform.machine())
    if not sys.platform.startswith("linux") or known is None or sys.maxsize < 2**32:
        return False
    architecture, calls = known
    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_IS, 1, 0, architecture),
        (_GIVE, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _SECOND),
        (_GIVE, 0, 0, _REFUSE),
    ]
    for number in (*calls, *_CALLS_OF_ALL):
        lines += [(_IS, 0, 1, number), (_GIVE, 0, 0, _REFUSE)]
    lines += [(_GIVE, 0, 0, _ALLOW)]
    text = b"".join(struct.pack("=HBBI", *line) for line in lines)
    buffer = ctypes.create_string_buffer(text, len(text))
    filtering = struct.pack("@HP", len(lines), ctypes.addressof(buffer))
    prctl, zero = ctypes.CDLL(None, use_errno=True).prctl, ctypes.c_ulong(0)
    if prctl(_NO_NEW_PRIVILEGES, ctypes.c_ulong(1), zero, zero, zero):
        return False
    return int(prctl(_SECCOMP, ctypes.c_ulong(_FILTER), ctypes.c_char_p(filtering), zero, zero)) == 0


def limit_memory(more: int) -> bool:
    """From now on no more bytes than there are and these; says whether the system sees to it.

    On Linux it is what the process may write to, without its threads' stacks. Elsewhere there is no such limit.
    """
    try:
        import resource

        used = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData:"))
        _set(resource.RLIMIT_DATA, int(used.split()[1]) * 1024 + more)
    except (ImportError, OSError, ValueError, StopIteration):
        return False
    return True


def limit_seconds(more: float | None) -> bool:
    """From now on so many seconds of a processor, after which the system ends the process; None takes the limit away.

    Returns:
        Whether the system sees to it.
    """
    try:
        import resource

        most = resource.RLIM_INFINITY if more is None else math.ceil(time.process_time() + more)
        _set(resource.RLIMIT_CPU, most)
    except (ImportError, OSError, ValueError):
        return False
    return True


def leave_no_core() -> None:
    """A crash leaves no copy of the memory on the disk."""
    try:
        import resource

        _set(resource.RLIMIT_CORE, 0)
    except (ImportError, OSError, ValueError):
        pass


def _set(what: int, most: int) -> None:
    import resource

    _, hard = resource.getrlimit(what)
    least = most if hard == resource.RLIM_INFINITY else hard if most == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (least, hard))
