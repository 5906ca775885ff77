"""The host's key: known, new, changed, revoked, certified, against a real sshd, by both ssh transports."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from opagent.errors import HostKeyRefused
from tests.doubles.dialing import Person, says
from tests.doubles.sshd import Sshd, fingerprint, generate, public, sshd

BOTH = pytest.mark.parametrize("transport", ["asyncssh", "openssh"])


@pytest.fixture
def server(home: Path) -> Iterator[Sshd]:
    with sshd(home.parent / "there") as server:
        yield server


def certify(authority: Path, key: Path, name: str, *more: str) -> Path:
    """A host certificate for `name`; sshd shows it as HostCertificate."""
    words = ["ssh-keygen", "-q", "-s", str(authority), "-I", "test", "-h", "-n", name, *more, str(key) + ".pub"]
    subprocess.run(words, check=True)
    return key.with_name(key.name + "-cert.pub")


@BOTH
def test_a_known_key_asks_nothing(server: Sshd, transport: str) -> None:
    person = Person()
    assert says(server.config, person, transport) == "in\n"
    assert person.asked == []


@BOTH
@pytest.mark.parametrize("answer", ["yes", "the fingerprint"])
def test_first_contact_asks_once_and_remembers(server: Sshd, transport: str, answer: str) -> None:
    server.know()
    print_ = fingerprint(server.host_key)
    person = Person(host_key=[print_ if answer == "the fingerprint" else answer])
    assert says(server.config, person, transport) == "in\n"
    assert person.kinds == ["host_key"]
    assert print_ in person.asked[0].text
    assert "ED25519" in person.asked[0].text
    assert server.known_hosts.read_text().split() == [f"[127.0.0.1]:{server.port}", *public(server.host_key).split()]
    assert says(server.config, Person(), transport) == "in\n"


@BOTH
def test_first_contact_without_a_person_is_refused(server: Sshd, transport: str) -> None:
    server.know()
    with pytest.raises(HostKeyRefused) as caught:
        says(server.config, Person(), transport)
    assert caught.value.what == "the key of there is not known"
    assert fingerprint(server.host_key) in caught.value.why
    assert caught.value.hint.startswith("ssh there true")
    assert server.known_hosts.read_text() == ""


@BOTH
@pytest.mark.parametrize("answer", ["no", "SHA256:somethingelse"])
def test_a_refused_key_is_not_remembered(server: Sshd, transport: str, answer: str) -> None:
    server.know()
    with pytest.raises(HostKeyRefused, match="is not known"):
        says(server.config, Person(host_key=[answer, "no"]), transport)
    assert server.known_hosts.read_text() == ""


@BOTH
@pytest.mark.parametrize("strict", ["ask", "yes", "accept-new", "no"])
def test_a_changed_key_is_refused_whatever_is_configured(server: Sshd, transport: str, strict: str) -> None:
    other = generate(server.folder / "other")
    server.know(other)
    server.configure(StrictHostKeyChecking=strict)
    person = Person(host_key=["yes"])
    with pytest.raises(HostKeyRefused) as caught:
        says(server.config, person, transport)
    assert caught.value.what == "there has another key than before"
    for part in (fingerprint(other), fingerprint(server.host_key), f"{server.known_hosts}:1"):
        assert part in caught.value.why
    assert "ssh-keygen" in caught.value.hint
    assert person.asked == []


def test_another_type_of_key_is_a_changed_key(server: Sshd) -> None:
    server.know(generate(server.folder / "other", "ecdsa"))
    with pytest.raises(HostKeyRefused, match="another key than before"):
        says(server.config, Person(host_key=["yes"]), "asyncssh")


def test_the_type_that_is_known_is_asked_for(home: Path) -> None:
    """The server has both, and would show the other one first."""
    with sshd(home.parent / "there") as server:
        rsa = generate(server.folder / "rsa", "rsa")
        server.options["HostKey"] = f"{server.host_key}\nHostKey {rsa}"
        server.restart()
        server.know(rsa)
        assert says(server.config, Person(), "asyncssh") == "in\n"


@BOTH
@pytest.mark.parametrize("strict", ["accept-new", "no"])
def test_a_new_key_is_taken_unasked_where_that_is_configured(server: Sshd, transport: str, strict: str) -> None:
    server.know()
    server.configure(StrictHostKeyChecking=strict)
    assert says(server.config, Person(), transport) == "in\n"
    assert public(server.host_key) in server.known_hosts.read_text()


@BOTH
def test_a_new_key_is_refused_unasked_where_that_is_configured(server: Sshd, transport: str) -> None:
    server.know()
    server.configure(StrictHostKeyChecking="yes")
    person = Person(host_key=["yes"])
    with pytest.raises(HostKeyRefused, match="StrictHostKeyChecking is yes"):
        says(server.config, person, transport)
    assert person.asked == []


def test_a_name_is_hashed_where_that_is_configured(server: Sshd) -> None:
    server.know()
    server.configure(HashKnownHosts="yes")
    assert says(server.config, Person(host_key=["yes"]), "asyncssh") == "in\n"
    text = server.known_hosts.read_text()
    assert text.startswith("|1|")
    assert "127.0.0.1" not in text
    assert says(server.config, Person(), "asyncssh") == "in\n"
    assert says(server.config, Person(), "openssh") == "in\n"


@BOTH
def test_a_revoked_key_is_refused(server: Sshd, transport: str) -> None:
    line = f"[127.0.0.1]:{server.port} {public(server.host_key)}\n"
    server.known_hosts.write_text(line + "@revoked " + line)
    with pytest.raises(HostKeyRefused, match="revoked"):
        says(server.config, Person(host_key=["yes"]), transport)


@BOTH
def test_a_list_of_revoked_keys_counts(server: Sshd, transport: str) -> None:
    revoked = server.folder / "revoked"
    revoked.write_text(public(server.host_key) + "\n")
    server.configure(RevokedHostKeys=str(revoked))
    with pytest.raises(HostKeyRefused, match="revoked"):
        says(server.config, Person(host_key=["yes"]), transport)


@BOTH
def test_a_host_certificate_of_a_trusted_authority(server: Sshd, transport: str) -> None:
    authority = generate(server.folder / "authority")
    server.options["HostCertificate"] = certify(authority, server.host_key, "127.0.0.1")
    server.restart()
    server.known_hosts.write_text(f"@cert-authority *,[127.0.0.1]:{server.port} {public(authority)}\n")
    assert says(server.config, Person(), transport) == "in\n"


def test_a_host_certificate_for_another_name_is_refused(server: Sshd) -> None:
    authority = generate(server.folder / "authority")
    server.options["HostCertificate"] = certify(authority, server.host_key, "elsewhere.example")
    server.restart()
    server.known_hosts.write_text(f"@cert-authority [127.0.0.1]:{server.port} {public(authority)}\n")
    with pytest.raises(HostKeyRefused, match="certificate"):
        says(server.config, Person(host_key=["yes"]), "asyncssh")


@BOTH
def test_an_alias_for_the_key_is_looked_up(server: Sshd, transport: str) -> None:
    server.known_hosts.write_text(f"cluster {public(server.host_key)}\n")
    server.configure(HostKeyAlias="cluster")
    assert says(server.config, Person(), transport) == "in\n"


def test_a_name_without_the_port_vouches_as_in_openssh(server: Sshd) -> None:
    server.known_hosts.write_text(f"127.0.0.1 {public(server.host_key)}\n")
    assert says(server.config, Person(), "asyncssh") == "in\n"


def test_an_unanswered_question_leaves_no_open_connection(server: Sshd) -> None:
    server.know()
    with pytest.raises(HostKeyRefused):
        says(server.config, Person(), "asyncssh")
    assert "Accepted" not in server.log.read_text()
