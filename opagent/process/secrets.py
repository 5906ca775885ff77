"""Fetches the value of one secret from where its owner keeps it; never writes one, never puts one on a command line.

    value = await fetch("cmd:pass show model", environment)       # the environment of the person's own command
    value = await fetch("keyring:model", environment)

Sources: `keyring:NAME` (service `opagent`), and from the user's own configuration `cmd:COMMAND`, `env:NAME`, `file:PATH`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import shlex
import shutil
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from opagent import files
from opagent.errors import Denied, FileRefused, NotFound
from opagent.policy.spellings import SHORTEST
from opagent.process import environment

SERVICE = "opagent"  # under which the keyring holds our entries
WITHIN = 30.0  # seconds for a command, which may have to ask a person to unlock something
LARGEST = 64 * 1024  # bytes
_DESKTOP = ("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "DISPLAY", "WAYLAND_DISPLAY", "GNUPGHOME", "PASSWORD_STORE_DIR")
_HINT = "opagent doctor"

# The package speaks to whatever keeps secrets on this machine; a program of its own, since it may hang or ask.
_KEYRING = """\
import sys
verb, name = sys.argv[1:]
try:
    import keyring
except ImportError:
    sys.exit(3)
backend = keyring.get_keyring()
if type(backend).__module__ in ("keyring.backends.null", "keyring.backends.fail") or not backend.priority > 0:
    sys.stderr.write(type(backend).__module__)
    sys.exit(4)
if verb == "look":
    sys.stdout.write(type(backend).__module__)
elif verb == "get":
    found = keyring.get_password("opagent", name)
    sys.exit(5) if found is None else sys.stdout.write(found)
elif verb == "set":
    keyring.set_password("opagent", name, sys.stdin.read())
else:
    keyring.delete_password("opagent", name)
"""
_NO_PACKAGE, _NO_BACKEND, _NO_ENTRY = 3, 4, 5


async def fetch(source: str, given: Mapping[str, str]) -> str:
    """The value. Raises NotFound (nothing there), Denied (must not be used); neither says anything of the value."""
    kind, _, rest = source.partition(":")
    match kind:
        case "keyring":
            value = await _from_keyring(rest, given)
        case "cmd":
            value = await _from_command(rest, given)
        case "env":
            value = given.get(rest, "")
            if not value:
                raise NotFound(f"the variable {rest} is not set", "a secret is read from it", f"export {rest}=...")
        case "file":
            value = await asyncio.to_thread(_from_file, os.path.expanduser(rest))
        case _:
            raise NotFound(f"a secret cannot come from {source}", "", _HINT)
    return usable(value, source)


def usable(value: str, source: str) -> str:
    """The value without its last line end. Raises Denied for one that could not be hidden or sent."""
    value = value.removesuffix("\n").removesuffix("\r")
    if len(value) < SHORTEST:
        why = f"one of fewer than {SHORTEST} characters could not be found again in what an agent says"
        raise Denied(f"the secret from {source} is too short", why, _HINT)
    if not value.isprintable():
        raise Denied(f"the secret from {source} cannot be sent in a header", "it holds line ends or control characters", _HINT)
    return value


def fingerprint(key: bytes, value: str) -> str:
    """What the journal keeps of a secret: tells whether it was the same one, and nothing else."""
    return hmac.new(key, value.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:16]


def clean(given: Mapping[str, str]) -> dict[str, str]:
    """What a program that keeps secrets gets of the person's environment: where they live, and how to ask them."""
    kept = {name: given[name] for name in (*environment.BASE, *_DESKTOP) if name in given}
    path = ":".join(entry for entry in kept.get("PATH", "").split(":") if os.path.isabs(entry))
    return {**environment.DEFAULTS, **kept, "PATH": path or environment.DEFAULTS["PATH"]}


# ---- the keyring -------------------------------------------------------------------------------------------------------------


async def keyring_problem(given: Mapping[str, str]) -> str:
    """Why there is no keyring to use here; "" when there is one."""
    code, _, said = await _keyring("look", "-", given)
    if code == 0 or (code == _NO_PACKAGE and _tool(given)):
        return ""
    return _no_keyring(code, said)


async def keep(name: str, value: str, given: Mapping[str, str]) -> None:
    """Put it into the keyring. Raises NotFound (no keyring), Denied (a value that is no use)."""
    value = usable(value, f"keyring:{name}")
    code, _, said = await _keyring("set", name, given, value)
    if code == _NO_PACKAGE and (tool := _tool(given)):
        code, _, said = await _run([tool, "store", f"--label=opagent {name}", *_entry(name)], given, value)
    if code != 0:
        raise NotFound(f"the secret {name} cannot be kept", _no_keyring(code, said), _HINT)


async def forget(name: str, given: Mapping[str, str]) -> None:
    """Take it out of the keyring. Raises NotFound."""
    code, _, said = await _keyring("delete", name, given)
    if code == _NO_PACKAGE and (tool := _tool(given)):
        code, _, said = await _run([tool, "clear", *_entry(name)], given)
    if code != 0:
        raise NotFound(f"the keyring does not give up {name}", _no_keyring(code, said), _HINT)


async def _from_keyring(name: str, given: Mapping[str, str]) -> str:
    code, value, said = await _keyring("get", name, given)
    if code == _NO_PACKAGE and (tool := _tool(given)):
        code, value, said = await _run([tool, "lookup", *_entry(name)], given)
        code = _NO_ENTRY if code != 0 and not said.strip() else code
    if code == _NO_ENTRY:
        raise NotFound(f"the keyring holds no {name}", f"of the service {SERVICE}", f"opagent secrets set {shlex.quote(name)}")
    if code != 0:
        raise NotFound(f"the secret keyring:{name} cannot be read", _no_keyring(code, said), _HINT)
    return value


async def _keyring(verb: str, name: str, given: Mapping[str, str], value: str = "") -> tuple[int, str, str]:
    return await _run([sys.executable, "-I", "-c", _KEYRING, verb, name], given, value)


def _tool(given: Mapping[str, str]) -> str | None:
    """The program of libsecret, which speaks to the same service and needs no package."""
    return shutil.which("secret-tool", path=clean(given)["PATH"])


def _entry(name: str) -> list[str]:
    """As the keyring package names it there: either finds what the other has kept."""
    return ["service", SERVICE, "username", name]


def _no_keyring(code: int, said: str) -> str:
    if code == _NO_PACKAGE:
        return "neither the package keyring nor the program secret-tool is installed"
    if code == _NO_BACKEND:
        return f"nothing keeps secrets on this machine: the keyring is {said.strip().splitlines()[-1]}"
    last = (said.strip().splitlines() or [f"exit status {code}"])[-1]
    return f"the keyring says: {last[:200]}"


# ---- the user's own sources --------------------------------------------------------------------------------------------------


async def _from_command(line: str, given: Mapping[str, str]) -> str:
    try:
        argv = shlex.split(line)
    except ValueError as error:
        raise NotFound("the command of a secret cannot be taken apart", str(error), _HINT) from error
    if not argv:
        raise NotFound("the command of a secret is empty", "", _HINT)
    code, value, said = await _run(argv, given)
    if code != 0:
        last = (said.strip().splitlines() or [""])[-1][:200]
        raise NotFound(f"{argv[0]} gave no secret", f"exit status {code}{': ' + last if last else ''}", shlex.join(argv))
    return value


def _from_file(path: str) -> str:
    """A regular file of mine that nobody else may read."""
    try:
        with contextlib.closing(_Opened(path)) as opened:
            found = os.fstat(opened.fd)
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
                raise Denied(f"{path} is not yours alone", "others may read or own it", f"chmod 600 {shlex.quote(path)}")
            return files.read_regular(opened.fd, LARGEST, path).decode("utf-8")
    except (OSError, FileRefused, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise NotFound(f"the secret file:{path} cannot be read", why or "", f"ls -l {shlex.quote(path)}") from error


class _Opened:
    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.fd)


async def _run(argv: Sequence[str], given: Mapping[str, str], said: str = "") -> tuple[int, str, str]:
    """Status, output, complaints of a program in a clean environment; `said` is what it reads. It has WITHIN seconds."""
    env = clean(given)
    home = env.get("HOME", "/")
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, env=env, cwd=home if Path(home).is_dir() else "/", stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=LARGEST,
        )  # fmt: skip
    except OSError as error:
        return 127, "", f"{argv[0]}: {error.strerror}"
    try:
        async with asyncio.timeout(WITHIN):
            out, err = await process.communicate(said.encode())
    except TimeoutError:
        return 124, "", f"it did not answer within {WITHIN:.0f} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out[:LARGEST].decode("utf-8", "replace"), err.decode("utf-8", "replace")
