"""Odd servers, and ways to them: what a dial makes of each, by both ssh transports."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from opagent import paths
from opagent.errors import HostRefused, HostUnreachable
from opagent.remote import refusals, route
from opagent.remote.seam import Connection
from tests.doubles.account import NEEDS_ROOT, account
from tests.doubles.dialing import Person, connected, ran, says, transport_of
from tests.doubles.patience import until
from tests.doubles.sshd import Sshd, free_port, sshd

BOTH = pytest.mark.parametrize("transport", ["asyncssh", "openssh"])


@pytest.fixture
def server(home: Path) -> Iterator[Sshd]:
    with sshd(home.parent / "there") as server:
        yield server


def serves(server: Sshd, **options: object) -> None:
    server.options |= options
    server.restart()


def without_shell(server: Sshd, transport: str) -> HostRefused:
    """The error of a command that ends before it says anything of ours."""

    async def story(connection: Connection) -> HostRefused:
        said, ended = await ran(connection, "sh -c 'echo MARK'")
        assert "MARK" not in said
        return refusals.no_shell("there", ended, said.encode())

    return connected(story, server.config, Person(), transport)


# no shell


@NEEDS_ROOT
@BOTH
@pytest.mark.parametrize("shell", ["/usr/sbin/nologin", "/bin/false"])
def test_a_login_shell_that_is_none(home: Path, transport: str, shell: str) -> None:
    with account(home.parent / "there", shell=shell) as server:
        error = without_shell(server, transport)
        assert error.what == "there gives no shell access"
        assert "login shell" in error.why


@BOTH
def test_a_forced_command_says_what_it_says(server: Sshd, transport: str) -> None:
    server.authorize(server.identity, 'command="echo only backups here; exit 7",restrict')
    error = without_shell(server, transport)
    assert "status 7" in error.why
    assert "only backups here" in error.why


@BOTH
def test_an_account_for_files_only(server: Sshd, transport: str) -> None:
    serves(server, ForceCommand="internal-sftp")
    error = without_shell(server, transport)
    assert "only transfer files" in error.why


# sockets


@pytest.mark.parametrize(
    "refusal",
    [
        {"AllowStreamLocalForwarding": "no"},
        {"DisableForwarding": "yes"},
        {"AllowStreamLocalForwarding": "remote"},
        {"AllowTcpForwarding": "no"},
        {"PermitOpen": "none"},
        {},
    ],
    ids=["streamlocal", "disabled", "remote", "tcp", "open", "restrict"],
)
def test_a_server_that_forwards_no_sockets(server: Sshd, home: Path, refusal: dict[str, object]) -> None:
    """OpenSSH says the same for it as for a socket where nobody listens: programs go on, and nothing hangs."""
    if refusal:
        serves(server, **refusal)
    else:
        server.authorize(server.identity, "restrict")
    path = home / "s"

    async def story(connection: Connection) -> None:
        listening = await asyncio.start_unix_server(lambda reader, writer: writer.close(), str(path))
        try:
            assert await connection.socket(str(path)) is None
        except FileNotFoundError:
            pass
        assert (await ran(connection, "echo in"))[0] == "in\n"
        listening.close()

    connected(story, server.config, Person(), "asyncssh")


def test_a_server_that_lets_nobody_listen_forwards_sockets(server: Sshd, home: Path) -> None:
    serves(server, PermitListen="none")

    async def story(connection: Connection) -> None:
        listening = await asyncio.start_unix_server(lambda reader, writer: writer.close(), str(home / "s"))
        through = await connection.socket(str(home / "s"))
        assert through is not None and await through.read() == b""
        listening.close()

    connected(story, server.config, Person(), "asyncssh")


# limits


def test_one_session_a_connection(server: Sshd, home: Path) -> None:
    """One program and any number of sockets; a second program is refused in words."""
    serves(server, MaxSessions=1)

    async def story(connection: Connection) -> None:
        first = await connection.run("cat")
        with pytest.raises(HostRefused, match="MaxSessions"):
            await connection.run("echo second")
        listening = await asyncio.start_unix_server(lambda reader, writer: writer.close(), str(home / "s"))
        through = await connection.socket(str(home / "s"))
        assert through is not None and await through.read() == b""
        await first.end()
        assert await first.read() == b""
        assert (await first.ended()).status == 0
        assert (await ran(connection, "echo next"))[0] == "next\n"
        listening.close()

    connected(story, server.config, Person(), "asyncssh")


def test_a_second_program_on_one_session_by_ssh(server: Sshd) -> None:
    serves(server, MaxSessions=1)

    async def story(connection: Connection) -> HostRefused:
        first = await connection.run("echo up; exec cat")
        await first.read()
        said, ended = await ran(connection, "echo second")
        return refusals.no_shell("there", ended, said.encode())

    assert "MaxSessions" in connected(story, server.config, Person(), "openssh").why


@BOTH
def test_too_many_connections_at_once(server: Sshd, transport: str) -> None:
    serves(server, MaxStartups="1:100:1", LoginGraceTime="60")

    def taken() -> socket.socket | None:
        """A connection that holds the only place; the one that looked whether the server is up may still do."""
        stream = socket.create_connection(("127.0.0.1", server.port))
        with contextlib.suppress(OSError):
            if stream.recv(4) == b"SSH-":
                return stream
        stream.close()
        return None

    with until(taken):
        with pytest.raises(HostUnreachable, match="hangs up") as caught:
            says(server.config, Person(), transport)
        assert "MaxStartups" in caught.value.why


@BOTH
def test_keys_made_anew_all_the_time(server: Sshd, transport: str) -> None:
    serves(server, RekeyLimit="1M")
    text = says(server.config, Person(), transport, "head -c 8000000 /dev/zero | tr '\\0' x")
    assert len(text) == 8_000_000


@BOTH
def test_a_banner_of_20_kilobytes(server: Sshd, transport: str) -> None:
    banner = server.folder / "banner"
    banner.write_text("*** authorised use only \x1b[31m ***\n" * 700)
    serves(server, Banner=banner)
    assert says(server.config, Person(), transport) == "in\n"


@BOTH
@pytest.mark.filterwarnings("ignore:Diffie-Hellman over finite fields")
def test_old_methods_only(server: Sshd, transport: str) -> None:
    """Refused by what OpenSSH accepts today; taken where the user's configuration says so."""
    serves(server, KexAlgorithms="diffie-hellman-group14-sha1", Ciphers="aes128-cbc", MACs="hmac-sha1")
    with pytest.raises(HostRefused, match="speaks no method that we accept") as caught:
        says(server.config, Person(), transport if transport == "openssh" else "")
    assert "KexAlgorithms" in caught.value.hint
    server.configure(KexAlgorithms="+diffie-hellman-group14-sha1", Ciphers="+aes128-cbc", MACs="+hmac-sha1")
    assert says(server.config, Person(), transport) == "in\n"


def test_a_method_that_only_openssh_has(server: Sshd) -> None:
    serves(server, KexAlgorithms="sntrup761x25519-sha512@openssh.com")
    assert transport_of(server.config) == "openssh"
    with pytest.raises(HostRefused, match="speaks no method"):
        says(server.config, Person(), "asyncssh")


@BOTH
def test_a_server_that_starts_anew(server: Sshd, transport: str) -> None:
    async def story(connection: Connection) -> str:
        server.stop()
        return await connection.lost()

    assert connected(story, server.config, Person(), transport)
    server.start()
    assert says(server.config, Person(), transport) == "in\n"


# nobody there


@BOTH
def test_nothing_listens(server: Sshd, transport: str) -> None:
    server.stop()
    with pytest.raises(HostUnreachable, match="there cannot be reached") as caught:
        says(server.config, Person(), transport)
    assert "nothing listens" in caught.value.why or "refused" in caught.value.why
    assert caught.value.hint == "ssh there true"


@BOTH
def test_a_name_without_an_address(server: Sshd, transport: str) -> None:
    server.configure(HostName="no-such-host.invalid")
    with pytest.raises(HostUnreachable, match="there is unknown") as caught:
        says(server.config, Person(), transport)
    assert "no-such-host.invalid" in caught.value.why


@contextlib.contextmanager
def plain_server(answer: bytes, hold: bool) -> Iterator[int]:
    """Says `answer` to whoever connects, then closes, or is silent for as long as the test goes on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        streams = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    stream, _ = listening.accept()
                    streams.append(stream)
                    stream.sendall(answer)
                    if not hold:
                        stream.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for stream in streams:
            stream.close()


@BOTH
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-none\r\n"], ids=["mute", "http", "ssh"])
def test_a_server_that_is_no_ssh_server(server: Sshd, transport: str, answer: bytes) -> None:
    with plain_server(answer, hold=False) as port:
        server.configure(Port=str(port), UserKnownHostsFile="/dev/null")
        with pytest.raises(HostUnreachable, match=r"hangs up|cannot be reached"):
            says(server.config, Person(), transport)


@BOTH
def test_a_server_that_never_speaks(server: Sshd, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from opagent.remote import handshake

    monkeypatch.setattr(handshake, "SILENT", 1.0)
    with plain_server(b"", hold=True) as port:
        server.configure(Port=str(port), ConnectTimeout="1")
        with pytest.raises(HostUnreachable, match="does not answer"):
            says(server.config, Person(), transport)


def test_an_address_that_swallows_everything(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full backlog drops what knocks, as a firewall does."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        with contextlib.ExitStack() as waiting:
            for _ in range(3):
                one = waiting.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(deaf.getsockname())
            monkeypatch.setattr(route, "CONNECT_WITHIN", 0.5)
            server.configure(Port=str(deaf.getsockname()[1]))
            with pytest.raises(HostUnreachable, match="does not answer") as caught:
                says(server.config, Person(), "asyncssh")
            assert "within 0.5 s" in caught.value.why


@BOTH
def test_a_mistake_in_the_configuration(server: Sshd, transport: str) -> None:
    server.configure("NoSuchKeyword yes")
    with pytest.raises(HostRefused, match="ssh configuration of there cannot be used") as caught:
        says(server.config, Person(), transport)
    assert "line 1" in caught.value.why
    assert caught.value.hint == "ssh -G there"


# ways


@BOTH
def test_through_two_jump_hosts(server: Sshd, home: Path, transport: str) -> None:
    """The last two are known to the configuration by names that nobody else knows."""
    with sshd(home.parent / "j1") as first, sshd(home.parent / "j2") as second:
        for jump, name in ((first, "one"), (second, "two")):
            jump.configure()
            text = Path(jump.config).read_text().replace("Host there", f"Host {name}")
            server.configure(text, *([] if name == "one" else [Path(first.config).read_text()]), ProxyJump="one,two")
            Path(jump.config).write_text(text)
        server.configure(*(Path(jump.config).read_text() for jump in (first, second)), ProxyJump="one,two")
        assert says(server.config, Person(), transport) == "in\n"
        assert "Accepted" in first.log.read_text()
        assert "Accepted" in second.log.read_text()


def test_a_jump_host_for_everything_is_not_its_own(server: Sshd, home: Path) -> None:
    """OpenSSH itself starts ssh for ever where the jump host has a port of its own."""
    with sshd(home.parent / "j1") as jump:
        text = Path(jump.config).read_text().replace("Host there", "Host one")
        server.configure(text, "Host *", "  ProxyJump one")
        assert says(server.config, Person(), "asyncssh") == "in\n"
        assert "Accepted" in jump.log.read_text()


def test_the_key_of_a_jump_host_is_asked_for_too(server: Sshd, home: Path) -> None:
    with sshd(home.parent / "j1") as jump:
        jump.know()
        server.know()
        text = Path(jump.config).read_text().replace("Host there", "Host one")
        server.configure(text, ProxyJump="one")
        person = Person(host_key=["yes", "yes"])
        assert says(server.config, person, "asyncssh") == "in\n"
        assert [question.text.split("\n")[0].split()[3] for question in person.asked] == ["one", "there"]


def test_a_jump_host_that_forwards_nothing(server: Sshd, home: Path) -> None:
    with sshd(home.parent / "j1", AllowTcpForwarding="no") as jump:
        server.configure(Path(jump.config).read_text().replace("Host there", "Host one"), ProxyJump="one")
        with pytest.raises(HostRefused, match="one does not lead to there"):
            says(server.config, Person(), "asyncssh")


def test_behind_a_jump_host_nothing_listens(server: Sshd, home: Path) -> None:
    with sshd(home.parent / "j1") as jump:
        text = Path(jump.config).read_text().replace("Host there", "Host one")
        server.configure(text, ProxyJump="one", Port=str(free_port()))
        with pytest.raises(HostUnreachable, match="there cannot be reached") as caught:
            says(server.config, Person(), "asyncssh")
        assert "from one" in caught.value.why


@BOTH
def test_through_a_command(server: Sshd, transport: str) -> None:
    code = (
        "import socket,sys,threading,os;s=socket.create_connection((sys.argv[1],int(sys.argv[2])));"
        "t=threading.Thread(target=lambda:[s.sendall(d) for d in iter(lambda:os.read(0,65536),b'')],daemon=True);t.start();"
        "[os.write(1,d) for d in iter(lambda:s.recv(65536),b'')]"
    )
    script = server.folder / "proxy.py"
    script.write_text(code)
    server.configure(ProxyCommand=f"python3 {script} %h %p")
    assert says(server.config, Person(), transport) == "in\n"


def test_a_command_that_fails_tells_why(server: Sshd) -> None:
    server.configure(ProxyCommand="sh -c 'echo the tunnel is closed >&2; exit 1'")
    with pytest.raises(HostUnreachable, match="hangs up") as caught:
        says(server.config, Person(), "asyncssh")
    assert "the tunnel is closed" in caught.value.why


def test_a_live_master_of_the_user_is_used(server: Sshd, home: Path) -> None:
    """It has the rights that somebody proved once: nothing is asked, and the server sees no new connection."""
    control = home / "c"
    server.configure(ControlPath=str(control), ControlMaster="no")
    words = ["ssh", "-F", server.config, "-M", "-N", "there"]
    master = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(control.exists)
    server.authorized_keys.write_text("")  # nobody else gets in
    try:
        assert transport_of(server.config) == "openssh"
        assert server.log.read_text().count("Accepted publickey") == 1
    finally:
        master.terminate()
        master.wait()


def test_includes_matches_and_aliases_are_those_of_ssh(server: Sshd) -> None:
    more = server.folder / "more"
    more.write_text(Path(server.config).read_text().replace("Host there", "Match originalhost gpu? exec true"))
    Path(server.config).write_text(f"Include {more}\n")
    for transport in ("asyncssh", "openssh"):
        assert says(server.config, Person(), transport, target="gpu7") == "in\n"


def test_without_an_ssh_binary_asyncssh_reads_the_file(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = server.folder / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    assert says(server.config, Person()) == "in\n"
    with pytest.raises(HostUnreachable, match="no program ssh"):
        says(server.config, Person(), "openssh")


@pytest.mark.parametrize(
    "line", ["Port many", "Match", "Host 'there", "Compression perhaps", "Match nonsense x"], ids=lambda line: line.split()[0]
)
def test_a_configuration_that_asyncssh_does_not_understand(server: Sshd, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """Where there is an `ssh`, that reads it; without one the line is named."""
    empty = server.folder / "empty"
    empty.mkdir()
    server.configure(line)
    monkeypatch.setenv("PATH", str(empty))
    with pytest.raises(HostRefused, match="ssh configuration of there cannot be used") as caught:
        says(server.config, Person())
    assert "line 1" in caught.value.why, caught.value.why


@pytest.mark.parametrize("line", ["ConnectTimeout 1m", "ServerAliveInterval 5s", 'Match exec "true" # always'])
def test_what_only_ssh_understands_is_left_to_it(server: Sshd, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """It is asked by `ssh -G`, and asyncssh dials with the answer."""
    server.configure(line)
    assert transport_of(server.config) == "asyncssh"
    empty = server.folder / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    with pytest.raises(HostRefused, match="cannot be used"):
        says(server.config, Person())


def test_nothing_is_left_of_the_system_ssh(server: Sshd) -> None:
    run = paths.run()
    assert says(server.config, Person(), "openssh") == "in\n"
    assert [path for path in run.rglob("*") if path.name.startswith("opagent-ssh-")] == []
