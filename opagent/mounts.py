"""On what kind of file system a directory lies, and whether other machines change it too; reads /proc only.

API: `untold`, `shared`.
"""

from __future__ import annotations

import os

# Somebody else's changes never arrive as events, and locks reach only as far as one kernel; on FUSE a probe of our own does
# arrive, so the type decides.
_UNTOLD = frozenset(
    (
        "nfs", "nfs3", "nfs4", "cifs", "smb3", "smbfs", "fuse", "9p", "virtiofs", "drvfs", "ceph", "afs", "lustre", "gpfs",
        "beegfs", "pvfs2", "panfs", "wekafs", "gfs2", "ocfs2", "vboxsf", "prl_fs",
    )
)  # fmt: skip


def untold(directory: str) -> str:
    """The type of the file system where others change files without this kernel hearing of it; "" for any other."""
    kind = file_system(directory)
    return kind if kind in _UNTOLD or kind.startswith("fuse.") else ""


def shared(path: str) -> str:
    """`untold` of the path, which need not exist: of the nearest directory above it."""
    while True:
        try:
            return untold(path)
        except OSError:
            if path == os.path.dirname(path):
                return ""
            path = os.path.dirname(path)


def file_system(directory: str) -> str:
    """ "ext4", "nfs4", "fuse.sshfs", ...; "" where it cannot be found out. Raises OSError where there is no directory."""
    fd = os.open(directory, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{fd}") as info, open("/proc/self/mountinfo", errors="replace") as mounts:
            return kind_of(mounts.read(), info.read())
    except FileNotFoundError:  # no /proc
        return ""
    finally:
        os.close(fd)


def kind_of(mountinfo: str, fdinfo: str) -> str:
    """The type that the table of mounts (proc(5)) gives the mount of an open descriptor: exact where mounts hide mounts."""
    ident = next((line.split()[1] for line in fdinfo.splitlines() if line.startswith("mnt_id:")), "")
    row = next((line for line in mountinfo.splitlines() if line.startswith(f"{ident} ")), "")
    return (row.partition(" - ")[2].split() or [""])[0]
