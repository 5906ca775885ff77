"""A program whose wall clock is another one; file times and the monotonic clock are the kernel's."""

from __future__ import annotations

import glob


def faked(shift: str) -> dict[str, str]:
    """What its environment needs for that. `shift`: as `+3d`."""
    library = next(iter(glob.glob("/usr/lib/*/faketime/libfaketime.so.1")), "")
    assert library, "faketime is not installed: scripts/system-packages installs it"
    more = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1", "FAKETIME_NO_CACHE": "1"}
    return {"LD_PRELOAD": library, "FAKETIME": shift, **more}
