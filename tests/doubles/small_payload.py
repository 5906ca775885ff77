"""A payload of two files: its landing says what a real one says and then gives back every byte. For tests of the way there."""

from __future__ import annotations

import secrets

from opagent.remote.payload import Payload, pack

LANDING = """\
import json, os, socket, sys

def land(nonce, verb, base, digest):
    facts = {
        "home": os.environ.get("HOME", ""), "uid": os.getuid(), "user": "", "socket": "", "python": sys.executable, "started": True,
        "python_version": sys.version.split()[0], "version": "0", "digest": digest, "base": base, "platform": sys.platform,
        "host_name": verb,
    }
    facts["socket"] = os.path.dirname(__file__)
    data = ("\\n\\x1eOPA1 %s %s\\n" % (nonce, json.dumps({"ok": facts}))).encode()
    while data:
        os.write(1, data)
        data = os.read(0, 65536)
"""


def small(size: int = 0) -> Payload:
    """One of its own each time, so that no test finds the installation of another. `size`: of a file that does not compress."""
    return pack(
        {
            "opagent/__init__.py": b"",
            "opagent/landing.py": LANDING.encode(),
            "opagent/ballast": secrets.token_bytes(max(size, 16)),
        }
    )
