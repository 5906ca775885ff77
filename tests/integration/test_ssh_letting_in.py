"""Being let in: keys, passphrases, agents, certificates, passwords and questions, against a real sshd."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from opagent.errors import HostRefused
from tests.doubles.account import NEEDS_ROOT, PASSWORD, account
from tests.doubles.dialing import Person, says, transport_of
from tests.doubles.sshd import Sshd, generate, public, sshd

BOTH = pytest.mark.parametrize("transport", ["asyncssh", "openssh"])


@pytest.fixture
def server(home: Path) -> Iterator[Sshd]:
    with sshd(home.parent / "there") as server:
        yield server


@pytest.fixture
def agent(home: Path) -> Iterator[str]:
    """A real ssh-agent; the path of its socket."""
    path = str(home.parent / "agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    yield path
    process.terminate()
    process.wait()
    process.stdout.close()


def hold(agent: str, *keys: Path) -> None:
    """Put keys into the agent."""
    for key in keys:
        env = {**os.environ, "SSH_AUTH_SOCK": agent}
        subprocess.run(["ssh-add", "-q", str(key)], check=True, env=env, stdin=subprocess.DEVNULL, capture_output=True)


def closed(server: Sshd, kind: str = "ed25519", *more: str) -> Path:
    """A key with a passphrase that the server takes."""
    key = generate(server.folder / "closed", kind, "open sesame", *more)
    server.authorize(key)
    server.configure(IdentityFile=str(key))
    return key


@BOTH
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_passphrase_is_asked_once(server: Sshd, transport: str, kind: str) -> None:
    key = closed(server, kind)
    person = Person(passphrase=["open sesame"])
    assert says(server.config, person, transport) == "in\n"
    assert person.kinds == ["passphrase"]
    assert str(key) in person.asked[0].text
    assert person.asked[0].secret


def test_a_passphrase_of_an_old_format(server: Sshd) -> None:
    closed(server, "rsa", "-m", "PEM")
    person = Person(passphrase=["wrong", "open sesame"])
    assert says(server.config, person, "asyncssh") == "in\n"
    assert person.kinds == ["passphrase"] * 2


def test_a_passphrase_is_not_asked_for_a_key_that_the_server_does_not_take(server: Sshd) -> None:
    other = generate(server.folder / "other", passphrase="x")
    other.with_name("other.pub").unlink()  # the private file shows the public key by itself
    server.configure(f"IdentityFile {other}")
    person = Person()
    assert says(server.config, person, "asyncssh") == "in\n"
    assert person.asked == []


@BOTH
def test_three_wrong_passphrases_are_enough(server: Sshd, transport: str) -> None:
    key = closed(server)
    person = Person(passphrase=["a", "b", "c", "open sesame"])
    with pytest.raises(HostRefused, match=r"there does not let \w+ in") as caught:
        says(server.config, person, transport)
    assert person.kinds == ["passphrase"] * 3
    if transport == "asyncssh":
        assert f"{key}: 3 wrong passphrases" in caught.value.why


@BOTH
def test_a_passphrase_without_a_person(server: Sshd, transport: str) -> None:
    closed(server)
    with pytest.raises(HostRefused) as caught:
        says(server.config, Person(), transport)
    assert "publickey" in caught.value.why
    assert caught.value.hint == "ssh there true"


def test_nobody_is_asked_in_batch_mode(server: Sshd) -> None:
    closed(server)
    server.configure(IdentityFile=str(server.folder / "closed"), BatchMode="yes")
    person = Person(passphrase=["open sesame"])
    with pytest.raises(HostRefused):
        says(server.config, person, "asyncssh")
    assert person.asked == []


@BOTH
def test_the_agent_has_the_key(server: Sshd, agent: str, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = generate(server.folder / "mine")
    hold(agent, key)
    server.authorize(key)
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    server.configure(IdentityFile="none", IdentitiesOnly="no", IdentityAgent="SSH_AUTH_SOCK")
    assert says(server.config, Person(), transport) == "in\n"


@BOTH
def test_a_public_file_picks_the_key_of_the_agent(server: Sshd, agent: str, transport: str) -> None:
    """Many keys, few tries: only the one that is meant is offered."""
    key = generate(server.folder / "mine")
    hold(agent, *(generate(server.folder / f"k{number}") for number in range(7)), key)
    key.unlink()
    server.authorize(key)
    server.options["MaxAuthTries"] = 2
    server.restart()
    server.configure(IdentityFile=f"{key}.pub", IdentitiesOnly="yes", IdentityAgent=agent)
    assert says(server.config, Person(), transport) == "in\n"


@BOTH
def test_the_configured_key_comes_before_the_others_of_the_agent(server: Sshd, agent: str, transport: str) -> None:
    hold(agent, *(generate(server.folder / f"k{number}") for number in range(7)), server.identity)
    server.options["MaxAuthTries"] = 2
    server.restart()
    server.configure(IdentitiesOnly="no", IdentityAgent=agent)
    assert says(server.config, Person(), transport) == "in\n"


@BOTH
def test_too_many_keys_are_explained(server: Sshd, agent: str, transport: str) -> None:
    hold(agent, *(generate(server.folder / f"k{number}") for number in range(7)))
    server.options["MaxAuthTries"] = 3
    server.restart()
    server.configure(IdentitiesOnly="no", IdentityAgent=agent)
    with pytest.raises(HostRefused, match="MaxAuthTries") as caught:
        says(server.config, Person(), transport)
    assert "IdentitiesOnly yes" in caught.value.hint


@BOTH
def test_a_user_certificate_beside_its_key(server: Sshd, transport: str) -> None:
    authority = generate(server.folder / "authority")
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "t", "-n", server.user, f"{server.identity}.pub"], check=True)
    server.authorized_keys.write_text(f"cert-authority {public(authority)}\n")
    assert says(server.config, Person(), transport) == "in\n"


def test_a_user_certificate_for_the_key_of_an_agent(server: Sshd, agent: str) -> None:
    authority = generate(server.folder / "authority")
    hold(agent, server.identity)
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "t", "-n", server.user, f"{server.identity}.pub"], check=True)
    certificate = server.identity.with_name("id-cert.pub").rename(server.folder / "elsewhere.pub")
    server.identity.unlink()
    server.authorized_keys.write_text(f"cert-authority {public(authority)}\n")
    server.configure(IdentityFile=f"{server.identity}.pub", CertificateFile=str(certificate), IdentityAgent=agent)
    assert says(server.config, Person(), "asyncssh") == "in\n"


def test_a_key_that_others_may_read_is_not_used(server: Sshd) -> None:
    server.identity.chmod(0o644)
    with pytest.raises(HostRefused, match="chmod 600"):
        says(server.config, Person(), "asyncssh")


def test_a_key_that_is_not_taken(server: Sshd) -> None:
    server.authorize(generate(server.folder / "other"))
    with pytest.raises(HostRefused) as caught:
        says(server.config, Person(), "asyncssh")
    assert re.fullmatch(rf"it takes publickey; it did not take {server.identity}", caught.value.why)


def test_no_agent_is_forwarded_and_no_display(server: Sshd, agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", "localhost:0")
    server.options |= {"AllowAgentForwarding": "yes", "X11Forwarding": "yes"}
    server.restart()
    server.configure(IdentityAgent=agent, ForwardAgent="yes", ForwardX11="yes", ForwardX11Trusted="yes")
    for transport in ("asyncssh", "openssh"):
        assert says(server.config, Person(), transport, 'echo "$SSH_AUTH_SOCK$DISPLAY"') == "\n"


def test_a_security_key_is_left_to_openssh(server: Sshd) -> None:
    """There is no such key here: OpenSSH is chosen, and fails with it before it takes the other one."""
    key = server.folder / "token"
    key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    key.with_name("token.pub").write_text("sk-ssh-ed25519@openssh.com AAAAGnNr\n")
    server.configure(f"IdentityFile {key}")
    assert transport_of(server.config) == "openssh"


@NEEDS_ROOT
@BOTH
@pytest.mark.parametrize("tries", [1, 2, 3])
def test_a_password(home: Path, transport: str, tries: int) -> None:
    with account(home.parent / "there", PasswordAuthentication="yes") as server:
        server.configure(IdentityFile="none")
        person = Person(password=["wrong"] * (tries - 1) + [PASSWORD])
        assert says(server.config, person, transport, "id -un") == "there\n"
        assert person.kinds == ["password"] * tries
        assert all(question.secret for question in person.asked)


@NEEDS_ROOT
@BOTH
def test_three_wrong_passwords(home: Path, transport: str) -> None:
    with account(home.parent / "there", PasswordAuthentication="yes") as server:
        server.configure(IdentityFile="none")
        person = Person(password=["wrong"] * 5)
        with pytest.raises(HostRefused, match="there does not let there in") as caught:
            says(server.config, person, transport)
        assert "password" in caught.value.why
        assert person.kinds == ["password"] * 3


@NEEDS_ROOT
@BOTH
def test_a_password_without_a_person(home: Path, transport: str) -> None:
    with account(home.parent / "there", PasswordAuthentication="yes") as server:
        server.configure(IdentityFile="none")
        person = Person()
        with pytest.raises(HostRefused, match="nobody answered a question"):
            says(server.config, person, transport)
        if transport == "asyncssh":
            assert len(person.asked) == 1


@NEEDS_ROOT
@BOTH
def test_three_factors_one_after_the_other(home: Path, transport: str) -> None:
    options = {"UsePAM": "yes", "KbdInteractiveAuthentication": "yes", "PasswordAuthentication": "yes"}
    options["AuthenticationMethods"] = "publickey,keyboard-interactive,password"
    with account(home.parent / "there", **options) as server:
        person = Person(keyboard=[PASSWORD, PASSWORD], password=[PASSWORD, PASSWORD])
        assert says(server.config, person, transport, "id -un") == "there\n"
        assert len(person.asked) == 2
        assert all("assword" in question.text and question.secret for question in person.asked)


@NEEDS_ROOT
def test_questions_without_a_key(home: Path) -> None:
    options = {"UsePAM": "yes", "KbdInteractiveAuthentication": "yes", "AuthenticationMethods": "keyboard-interactive"}
    with account(home.parent / "there", **options) as server:
        person = Person(keyboard=["wrong", PASSWORD])
        assert says(server.config, person, "asyncssh", "id -un") == "there\n"
        assert person.kinds == ["keyboard"] * 2
        assert person.asked[0].text == f"there (127.0.0.1 port {server.port}) asks:\nLook at your token.\nPassword:"
