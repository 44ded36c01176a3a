"""Whether the machine has power from outside, as far as its system says."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

_SUPPLIES = Path("/sys/class/power_supply")


def is_plugged(supplies: Path = _SUPPLIES) -> bool:
    """Whether it has: a machine without a battery does; of one that does not say it, nobody knows, and it has not.

    Args:
        supplies: where Linux tells of them.
    """
    if sys.platform == "darwin":
        try:
            told = subprocess.run(["pmset", "-g", "batt"], capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.SubprocessError):
            return False
        return "AC Power" in told.stdout
    if sys.platform == "win32":
        status = (ctypes.c_ubyte * 12)()
        return bool(ctypes.windll.kernel32.GetSystemPowerStatus(status)) and status[0] == 1
    found = [(_said(each / "type"), each) for each in sorted(supplies.glob("*"))]
    outside = [each for kind, each in found if kind in ("Mains", "USB")]
    if any(_said(each / "online") == "1" for each in outside):
        return True
    return not any(kind == "Battery" and _said(each / "scope") != "Device" for kind, each in found)


def _said(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
