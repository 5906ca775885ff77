"""A real OpenSSH server on loopback, for one test: own port, keys, configuration, and another home for who logs in.

::

    with sshd(home.parent / "there", MaxSessions=1) as server:
        await dial(Target("there", "/srv"), ask, tell, Settings(config=server.config))

It runs as whoever runs the test and lets only them in. What runs there has `server.home` for its HOME and finds its XDG
directories in it; OPAGENT_TEST_ID goes with it, so that what it leaves behind is found.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.doubles.patience import until

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or "/usr/sbin/sshd"
_BASE = {
    "UsePAM": "no",
    "StrictModes": "no",
    "PidFile": "none",
    "PasswordAuthentication": "no",
    "KbdInteractiveAuthentication": "no",
    "X11Forwarding": "no",
    "PrintMotd": "no",
    "PrintLastLog": "no",
    "Subsystem": "sftp internal-sftp",
    "MaxStartups": "100",
    "LogLevel": "VERBOSE",
}


def generate(path: Path, kind: str = "ed25519", passphrase: str = "", *more: str) -> Path:
    """A new key pair; `path` is the private one."""
    words = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", path.name, "-f", str(path), *more]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    return path


def public(path: Path) -> str:
    """Type and key of a pair, as they stand in known_hosts and authorized_keys."""
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])


def fingerprint(path: Path) -> str:
    """`SHA256:...` of a pair's public key."""
    return subprocess.run(["ssh-keygen", "-lf", str(path)], check=True, capture_output=True, text=True).stdout.split()[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Side:
    """Where a server listens, and what its command line begins with to be there (`tests/doubles/wan.py`)."""

    address: str = "127.0.0.1"
    within: tuple[str, ...] = ()


class Sshd:
    """`config`: an ssh_config where the alias `there` leads here. `folder` holds everything else."""

    def __init__(self, folder: Path, options: Mapping[str, object], environment: Mapping[str, str], side: Side = Side()) -> None:
        self.side = side
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder, self.home, self.user, self.port = folder, folder / "home", getpass.getuser(), free_port()
        self.config = str(folder / "ssh_config")
        self.known_hosts, self.authorized_keys, self.log = (folder / n for n in ("known_hosts", "authorized_keys", "sshd.log"))
        self.home.mkdir(mode=0o700, exist_ok=True)
        (folder / "run").mkdir(mode=0o700, exist_ok=True)
        self.host_key, self.identity = generate(folder / "host"), generate(folder / "id")
        self.authorize(self.identity)
        self.know(self.host_key)
        self.options, self.environment = dict(options), dict(environment)
        self.process: subprocess.Popen[bytes] | None = None
        self.configure()

    def authorize(self, key: Path, options: str = "") -> None:
        """Only this key gets in, restricted by `options` of an authorized_keys line."""
        self.authorized_keys.write_text(f"{options} {public(key)}\n".lstrip())

    def know(self, *keys: Path) -> None:
        """What the client's known_hosts says of this server."""
        self.known_hosts.write_text("".join(f"[{self.side.address}]:{self.port} {public(key)}\n" for key in keys))

    def configure(self, *more: str, **changed: str) -> None:
        """Write the client's configuration: `more` lines come first and so win, then `changed` keywords."""
        keys = {
            "HostName": self.side.address,
            "Port": str(self.port),
            "User": self.user,
            "IdentityFile": str(self.identity),
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": str(self.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
        } | changed
        lines = [*more, "Host there", *(f"  {name} {value}" for name, value in keys.items())]
        Path(self.config).write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        """It takes connections when this returns."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where its unprivileged part is locked in
        (self.folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in self._keywords()))
        self.process = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, start_new_session=True)
        until(self._answers)

    def argv(self) -> list[str]:
        return [*self.side.within, SSHD, "-D", "-f", str(self.folder / "sshd_config"), "-E", str(self.log)]

    @property
    def variables(self) -> dict[str, str]:
        """What programs there get in their environment."""
        return {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "XDG_STATE_HOME": str(self.home / ".local/state"),
            "XDG_DATA_HOME": str(self.home / ".local/share"),
            "XDG_CACHE_HOME": str(self.home / ".cache"),
            "OPAGENT_SYSTEM_POLICY": str(self.folder / "no-policy.yaml"),
            "OPAGENT_TEST_ID": os.environ.get("OPAGENT_TEST_ID", ""),
        } | self.environment

    def _keywords(self) -> Iterator[tuple[str, object]]:
        given = {
            "Port": self.port,
            "ListenAddress": self.side.address,
            "HostKey": self.host_key,
            "AuthorizedKeysFile": self.authorized_keys,
            "SetEnv": " ".join(f'"{name}={value}"' for name, value in self.variables.items()),
            **self.options,
        }
        yield from given.items()
        yield from ((name, value) for name, value in _BASE.items() if name not in given)

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError), socket.create_connection((self.side.address, self.port), timeout=5) as stream:
            return stream.recv(4) != b""
        return False

    def sessions(self) -> list[psutil.Process]:
        """The server's process of each connection; not what runs in it."""
        if self.process is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return [child for child in psutil.Process(self.process.pid).children(recursive=True) if child.name() == "sshd"]
        return []

    def cut(self) -> None:
        """Every connection ends without a word; the server goes on."""
        for session in self.sessions():
            with contextlib.suppress(psutil.NoSuchProcess):
                session.send_signal(signal.SIGKILL)

    def stop(self) -> None:
        """No server and no connection any more; what runs in the background there stays."""
        if self.process is None:
            return
        sessions = self.sessions()
        self.process.terminate()
        self.process.wait()
        for session in sessions:
            with contextlib.suppress(psutil.NoSuchProcess):
                session.kill()
        psutil.wait_procs(sessions, timeout=10)
        self.process = None

    def restart(self) -> None:
        """Stopped and started again, on the same port."""
        self.stop()
        self.start()


@contextlib.contextmanager
def sshd(
    folder: Path, environment: Mapping[str, str] | None = None, kind: type[Sshd] = Sshd, side: Side = Side(), **options: object
) -> Iterator[Sshd]:
    """`options` are keywords of sshd_config; `environment` adds to what programs there get."""
    server = kind(folder, options, environment or {}, side)
    try:
        server.start()
        yield server
    finally:
        server.stop()
