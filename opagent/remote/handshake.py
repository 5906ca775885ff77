"""Opens one authenticated connection with asyncssh: key exchange, the host's key, being let in, and every failure in words.

A host key that nobody knows ends the first attempt. The question is asked while nothing is open, and the next attempt takes
exactly that key; so a person may think for as long as they like, and nothing was sent to who may be somebody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

import asyncssh
from asyncssh import encryption, kex, mac, public_key

from opagent.errors import HostRefused, HostUnreachable
from opagent.remote import hostkeys, refusals
from opagent.remote.answers import Answers
from opagent.remote.choice import OnlyOpenSsh
from opagent.remote.identity import Identity, Verdict
from opagent.remote.route import Stem
from opagent.remote.seam import Ask, Phase, Question, Tell
from opagent.remote.ssh import ALIVE_EVERY, ALIVE_TIMES, Lost, SshConnection
from opagent.remote.sshconfig import HostConfig

SILENT = 20.0  # seconds a server may take for one step, while no person is asked
METHODS = "publickey,keyboard-interactive,password"
# Ours are Python's: the ciphers that OpenSSL does in one call are five times as fast as the one that OpenSSH prefers.
_FAST = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")


Way = Stem | SshConnection  # to the server: a connected socket, or the connection to the last jump host
Reach = Callable[[], Awaitable[Way]]


async def open_chain(hops: list[HostConfig], first: Reach, ask: Ask, tell: Tell, agent: str | None) -> SshConnection:
    """Through each host to the last one. Raises HostKeyRefused, HostRefused, HostUnreachable, OnlyOpenSsh."""
    asyncssh.set_log_level(logging.WARNING)
    connection: SshConnection | None = None
    for config in hops:
        reach = first if connection is None else _through(connection)
        try:
            connection = await _open(config, reach, ask, tell, agent)
        except BaseException:
            if connection is not None:
                connection.close()
            raise
    assert connection is not None
    return connection


def _through(jump: SshConnection) -> Reach:
    async def reach() -> Way:
        return jump

    return reach


async def _open(config: HostConfig, reach: Reach, ask: Ask, tell: Tell, agent: str | None) -> SshConnection:
    pinned = b""
    while True:
        way = await reach()
        tell(Phase("authenticating", config.where))
        attempt = _Attempt(config, way, ask, agent, pinned)
        try:
            return await attempt.connect()
        except asyncssh.HostKeyNotVerifiable as error:
            if not attempt.shown or attempt.shown == pinned:
                raise attempt.identity.invalid(error.reason) from error
            await attempt.identity.decide(attempt.shown, attempt.answers.ask)
            pinned = attempt.shown
        finally:
            await attempt.done()


class _Client(asyncssh.SSHClient):
    """What asyncssh calls while it connects."""

    def __init__(self, attempt: _Attempt) -> None:
        self._attempt = attempt
        self._answers = attempt.answers

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self._attempt.connection = conn

    def connection_lost(self, exc: Exception | None) -> None:
        self._attempt.lost.set(exc)

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        return self._attempt.accepts(key.public_data)

    def auth_banner_received(self, msg: str, lang: str) -> None:
        self._attempt.banner = refusals.clean(msg, 4096)

    def begin_auth(self, username: str) -> None:
        self._attempt.step = "while it decided whether to let us in"
        self._attempt.alive()

    async def public_key_auth_requested(self) -> asyncssh.SSHKeyPair | None:
        self._note()
        return await self._answers.key()

    async def password_auth_requested(self) -> str | None:
        self._note()
        return await self._answers.password()

    async def kbdint_auth_requested(self) -> str | None:
        self._note()
        return self._answers.interactive()

    async def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str] | None:
        self._attempt.alive()
        return await self._answers.challenge(name, instructions, prompts)

    def _note(self) -> None:
        self._attempt.alive()
        if self._attempt.connection is not None:
            self._answers.offered.update(self._attempt.connection.get_server_auth_methods())


class _Attempt:
    """One try at one server."""

    def __init__(self, config: HostConfig, way: Way, ask: Ask, agent: str | None, pinned: bytes) -> None:
        self._config, self._pinned = config, pinned
        self._stem = way if isinstance(way, Stem) else None
        self._jump = way if isinstance(way, SshConnection) else None
        self.connection: asyncssh.SSHClientConnection | None = None
        self.lost = Lost(config.name)
        self.identity = Identity(config, _address(self._stem))
        self._ask = ask
        self.answers = Answers(config, self._asked, agent)
        self.shown = b""  # a key that is not known
        self.banner = ""
        self.step = "while keys were exchanged"
        self._limit: asyncio.Timeout | None = None
        self._asking = self._open = False

    async def connect(self) -> SshConnection:
        try:
            async with asyncio.timeout(SILENT) as self._limit:
                return await self._connect()
        except TimeoutError as error:
            why = f"{self.step}: not a byte within {SILENT:g} s"
            raise refusals.silent(self._config.name, why) from error
        except asyncssh.HostKeyNotVerifiable:
            raise
        except asyncssh.KeyExchangeFailed as error:
            raise OnlyOpenSsh(error.reason) from error
        except asyncssh.PermissionDenied as error:
            raise self._not_let_in() from error
        except asyncssh.ChannelOpenError as error:
            raise self._not_forwarded(error) from error
        except (asyncssh.Error, OSError) as error:
            raise self._broken(error) from error
        except ValueError as error:  # what the configuration says and asyncssh does not take
            raise OnlyOpenSsh(str(error)) from error
        finally:
            self._limit = None

    async def _connect(self) -> SshConnection:
        config, stem, jump = self._config, self._stem, self._jump
        connection = await asyncssh.connect(
            config.host,
            config.port,
            sock=stem.socket if stem else None,
            tunnel=jump.connection if jump else None,
            client_factory=lambda: _Client(self),
            **self._options(),
        )
        self._open = True
        return SshConnection(connection, self.lost, config.name, jump or (stem.proxy if stem else None))

    async def done(self) -> None:
        """Whatever came of it."""
        self.answers.close()
        if not self._open and self._stem is not None:
            self._stem.close()
            await self._stem.left()

    def accepts(self, blob: bytes) -> bool:
        """Asked by asyncssh for a key that is not among those it was given: an unknown one, or another than before."""
        self.alive()
        if self.identity.accepts_unasked(blob):
            if self.identity.verdict(blob) is Verdict.NEW:
                self.identity.learn(blob)
            return True
        self.shown = blob
        return False

    def alive(self) -> None:
        """The server did something: its time starts anew."""
        if self._limit is not None and not self._limit.expired() and not self._asking:
            self._limit.reschedule(asyncio.get_running_loop().time() + SILENT)

    async def _asked(self, question: Question) -> str | None:
        """The person's answer. Meanwhile nobody is too slow."""
        self._asking = True
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(None)
        try:
            return await self._ask(question)
        finally:
            self._asking = False
            self.alive()

    def _options(self) -> dict[str, object]:
        config = self._config
        known = self.identity.trusted()
        plain, authorities, revoked = (
            [entry.text.encode() for entry in known if entry.marker == marker] for marker in ("", "cert-authority", "revoked")
        )
        if self._pinned:
            plain = [hostkeys.key_text(self._pinned).encode()]
        return {
            "config": None,
            "username": config.user,
            "known_hosts": (_readable(plain), _readable(authorities), _readable(revoked)),
            "host_key_alias": config.one("hostkeyalias") or None,
            "server_host_key_algs": self._key_kinds([hostkeys.kind(self._pinned)] if self._pinned else []),
            "kex_algs": _both("key exchange", config, "kexalgorithms", kex.get_kex_algs()),
            "encryption_algs": _fast_first(_both("encryption", config, "ciphers", encryption.get_encryption_algs())),
            "mac_algs": _both("MAC", config, "macs", mac.get_mac_algs()),
            "compression_algs": ["zlib@openssh.com", "none"] if config.yes("compression") else ["none"],
            "preferred_auth": config.one("preferredauthentications", METHODS),
            "public_key_auth": config.yes("pubkeyauthentication", True),
            "password_auth": config.yes("passwordauthentication", True),
            "kbdint_auth": config.yes("kbdinteractiveauthentication", True),
            "host_based_auth": False,
            "gss_host": None,
            "client_keys": None,  # `Answers` gives them
            "agent_path": None,
            "agent_forwarding": False,
            "x509_trusted_certs": None,
            "connect_timeout": None,
            "login_timeout": 0,
            "keepalive_interval": ALIVE_EVERY,
            "keepalive_count_max": ALIVE_TIMES,
        }

    def _key_kinds(self, wanted: list[str]) -> list[str]:
        """The key types that we ask for: first those that we know of this host, so that the server shows one of them."""
        ours = [name.decode() for name in public_key.get_public_key_algs()]
        certified = [name.decode() for name in public_key.get_certificate_algs()]
        allowed = self._config.one("hostkeyalgorithms").split(",") if self._config.one("hostkeyalgorithms") else ours
        known = wanted or [entry.kind for entry in self.identity.trusted() if not entry.marker]
        kinds = [name for name in allowed if name in ours]
        first = [name for name in kinds if _kind_of(name) in known]
        signed = [name for name in allowed if name in certified] if self.identity.authorities() and not wanted else []
        found = signed + first + [name for name in kinds if name not in first]
        if not found:
            raise OnlyOpenSsh("no host key algorithm of the configuration")
        return found

    def _not_let_in(self) -> HostRefused | OnlyOpenSsh:
        answers, config = self.answers, self._config
        if answers.keys.tried.security_key:
            return OnlyOpenSsh("a security key is configured")
        return refusals.not_let_in(config.name, config.user, answers.explained(), f"ssh {config.name} true")

    def _not_forwarded(self, error: asyncssh.ChannelOpenError) -> HostUnreachable:
        """The jump host gives no connection to the next."""
        name = self._jump.where if self._jump else "the jump host"
        if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
            return refusals.jump_forwards_nothing(name, self._config.name, error.reason)
        return refusals.unreachable(
            self._config.name, f"{self._config.host} port {self._config.port} from {name}: {error.reason}"
        )

    def _broken(self, error: Exception) -> HostUnreachable:
        name, answers = self._config.name, self.answers
        if "too many authentication failures" in str(error).lower():
            return refusals.too_many_keys(name, self._config.user, len(answers.keys.tried.offered))
        if self._asking:
            return refusals.hung_up(name, "while it waited for an answer")
        heard = self.connection is not None and self.connection.get_extra_info("server_version")
        when = self.step if heard else "before it said who it is"
        said = (self._stem.said() if self._stem else "") or (
            "" if isinstance(error, OSError | asyncssh.ConnectionLost) else str(error)
        )
        return refusals.hung_up(name, when, said)


def _address(stem: Stem | None) -> str:
    if stem is None or stem.socket.family not in (socket.AF_INET, socket.AF_INET6):
        return ""
    with contextlib.suppress(OSError):
        return str(stem.socket.getpeername()[0])
    return ""


def _readable(lines: list[bytes]) -> list[asyncssh.SSHKey]:
    """The keys among them of a type that asyncssh knows."""
    found = []
    for line in lines:
        with contextlib.suppress(asyncssh.KeyImportError):
            found.append(asyncssh.import_public_key(line))
    return found


def _kind_of(algorithm: str) -> str:
    """The type of key that signs so."""
    return "ssh-rsa" if algorithm.startswith("rsa-sha2-") else algorithm


def _both(what: str, config: HostConfig, keyword: str, ours: list[bytes]) -> list[str]:
    """What the configuration allows and asyncssh can, in the order of the configuration. Raises OnlyOpenSsh."""
    names = [name.decode() for name in ours]
    said = config.one(keyword)
    found = [name for name in said.split(",") if name in names] if said else names
    if not found:
        raise OnlyOpenSsh(f"asyncssh has no {what} algorithm of {said}")
    return found


def _fast_first(names: list[str]) -> list[str]:
    return [name for name in _FAST if name in names] + [name for name in names if name not in _FAST]
