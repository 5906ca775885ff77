"""Two names change places; where the kernel cannot, the same by rename and link, so that nothing is ever written over.

API: `swap`.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from opagent import files

_UNKNOWN = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)  # FUSE says EINVAL
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)


def swap(temporary: Path, path: Path) -> tuple[Path, ...]:
    """What `temporary` named stands at `path`, and `temporary` names what stood there until that instant.

    Returns further files that were displaced, older first (only without the exchange, when an editor made the file anew
    in between). Raises OSError: ENOENT where there is no `path`, EXDEV, EACCES, ...; then nothing has changed.
    """
    try:
        files.exchange(temporary, path)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
        return by_names(temporary, path)
    return ()


def by_names(temporary: Path, path: Path) -> tuple[Path, ...]:
    """The fallback: for an instant there is no file at `path`."""
    taken: list[Path] = []
    while True:
        grab = temporary.with_name(f"{temporary.name}.{len(taken)}")
        try:
            os.rename(path, grab)
            taken.append(grab)
        except FileNotFoundError:
            if not taken:
                raise
        try:
            os.link(temporary, path)
            os.unlink(temporary)
            break
        except FileExistsError:
            continue  # an editor made it anew: that one comes out too
        except OSError as error:
            if error.errno not in _NO_LINKS:
                os.rename(grab, path)
                raise
            os.rename(temporary, path)
            break
    os.rename(taken.pop(), temporary)
    return tuple(taken)
