"""The words around dialing: configuration, jump chains, complaints of ssh, questions. No connection is made."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.errors import HostKeyRefused, HostRefused, HostUnreachable
from opagent.remote import choice, complaints, refusals, route, sshconfig
from opagent.remote.answers import Answers
from opagent.remote.asked import question
from opagent.remote.complaints import Complaint
from opagent.remote.seam import Ended, Question
from opagent.remote.sshconfig import HostConfig
from opagent.target import machine
from tests.doubles.dialing import Person


def config(name: str = "gpu1", values: Mapping[str, Sequence[str]] | None = None, port: int = 22) -> HostConfig:
    return HostConfig(name, name, f"{name}.example.org", port, "ana", values or {})


# what `ssh -G` says


def test_the_output_of_ssh_is_read() -> None:
    text = (
        "user ana\nhostname gpu1.example.org\nport 2222\nidentityfile ~/.ssh/a b\nidentityfile none\nuserknownhostsfile /a /b\n"
        "proxyjump none\nstricthostkeychecking accept-new\nconnecttimeout none\nhashknownhosts yes\n"
    )
    found = sshconfig.parse("gpu1", "gpu1", text)
    assert (found.host, found.port, found.user) == ("gpu1.example.org", 2222, "ana")
    assert found.paths("identityfile") == [f"{sshconfig.home()}/.ssh/a b"]
    assert found.paths("userknownhostsfile") == ["/a", "/b"]
    assert found.one("proxyjump") == ""
    assert found.number("connecttimeout", 7) == 7
    assert found.yes("hashknownhosts")
    assert found.where == "gpu1 (gpu1.example.org port 2222)"


def test_tokens_of_file_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "/keys")
    found = config(port=2222)
    assert found.path("${PLACE}/%r@%h:%p-%n-%u-%%h") == f"/keys/ana@gpu1.example.org:2222-gpu1-{sshconfig.me()}-%h"
    assert found.path("~") == sshconfig.home()
    assert found.path("a~/%d") == f"a~/{sshconfig.home()}"
    assert found.path("%x") == "%x"


@pytest.mark.parametrize(
    ("said", "given", "path"),
    [
        ([], "/agent", "/agent"),
        ([], None, "/own"),
        (["none"], "/agent", ""),
        (["SSH_AUTH_SOCK"], "/agent", "/agent"),
        (["$MY_AGENT"], "/agent", "/mine"),
        (["/fixed/%r"], "/agent", "/fixed/ana"),
    ],
)
def test_where_the_agent_is(said: list[str], given: str | None, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/own")
    monkeypatch.setenv("MY_AGENT", "/mine")
    assert sshconfig.agent_path(config(values={"identityagent": said} if said else {}), given) == path


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, ""),
        ({"pkcs11provider": ["none"], "gssapiauthentication": ["yes"], "proxyusefdpass": ["yes"]}, ""),
        ({"pkcs11provider": ["/lib/p11.so"]}, "PKCS11Provider"),
        ({"knownhostscommand": ["/bin/lookup %H"]}, "KnownHostsCommand"),
        ({"hostbasedauthentication": ["yes"]}, "HostbasedAuthentication"),
        ({"proxyusefdpass": ["yes"], "proxycommand": ["x"]}, "ProxyUseFdpass"),
        ({"controlpath": ["/no/such/socket"]}, ""),
    ],
)
def test_what_only_openssh_can(values: dict[str, list[str]], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5CCNAME", "/no/such/cache")
    assert choice.only_openssh(config(values=values), "") == reason


def test_kerberos_counts_where_there_is_a_ticket(tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}")
    assert choice.only_openssh(config(values={"gssapiauthentication": ["yes"]}), "") == "GSSAPIAuthentication"
    monkeypatch.setenv("KRB5CCNAME", "KEYRING:persistent:0")
    assert choice.only_openssh(config(values={"gssapiauthentication": ["yes"]}), "") == "GSSAPIAuthentication"


# the way


def chain(jumps: dict[str, str], target: str = "end") -> list[tuple[str, str, int]]:
    async def read(host: str, user: str, port: int) -> HostConfig:
        values = {"proxyjump": [jumps[host]]} if host in jumps else {}
        return HostConfig(host, host, host, port or 22, user or "me", values)

    return [(hop.host, hop.user, hop.port) for hop in asyncio.run(route.hops(machine(target), read))]


def test_jump_hosts() -> None:
    assert chain({}) == [("end", "me", 22)]
    assert chain({"end": "a,bob@b:2200, c"}) == [("a", "me", 22), ("b", "bob", 2200), ("c", "me", 22), ("end", "me", 22)]
    assert chain({"end": "ssh://bob@b:2200"})[0] == ("b", "bob", 2200)


def test_only_the_first_jump_host_has_one_of_its_own() -> None:
    assert [name for name, *_ in chain({"end": "a,b", "a": "x", "b": "y", "x": "z"})] == ["z", "x", "a", "b", "end"]


def test_a_jump_host_that_is_the_host_itself_is_none() -> None:
    assert [name for name, *_ in chain({"end": "gate", "gate": "gate"})] == ["gate", "end"]


def test_jump_hosts_in_a_circle_are_a_mistake_of_the_configuration() -> None:
    with pytest.raises(HostRefused, match="configuration"):
        chain({"end": "a", "a": "b", "b": "a"})
    with pytest.raises(HostRefused, match="names no host"):
        chain({"end": "-x"})


# what ssh says


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("ssh: Could not resolve hostname nix: Name or service not known", HostUnreachable, "the name nix has no address"),
        ("ssh: connect to host h port 22: Connection refused", HostUnreachable, "Connection refused"),
        ("ssh: connect to host h port 22: Connection timed out", HostUnreachable, "gpu1 does not answer"),
        ("ssh: connect to host h port 22: No route to host", HostUnreachable, "No route to host"),
        ("ana@h: Permission denied (publickey,password).", HostRefused, "does not let ana in: it takes publickey, password"),
        ("Received disconnect from h: 2: Too many authentication failures", HostRefused, "MaxAuthTries"),
        ("Unable to negotiate with h: no matching key exchange method found. Their offer: x", HostRefused, "Their offer: x"),
        ("No ED25519 host key is known for h and you have requested strict checking.", HostKeyRefused, "StrictHostKeyChecking"),
        ("Host key verification failed.", HostKeyRefused, "was not accepted"),
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", HostKeyRefused, "another key"),
        ("WARNING: REVOKED HOST KEY DETECTED!", HostKeyRefused, "revoked"),
        ("/c: line 3: Bad configuration option: nosuch", HostRefused, "line 3"),
        ("kex_exchange_identification: Connection closed by remote host", HostUnreachable, "MaxStartups"),
        ("channel 0: open failed: administratively prohibited: open failed", HostRefused, "does not lead to"),
        ("something new\nin two lines", HostUnreachable, "something new / in two lines"),
        ("", HostUnreachable, "without a word"),
    ],
)
def test_complaints_of_ssh(text: str, kind: type[HostUnreachable], words: str) -> None:
    error = complaints.explained(Complaint("gpu1", "ana", text, ("ED25519", "SHA256:new")))
    assert type(error) is kind
    assert words in str(error)
    assert error.hint


@given(st.text())
def test_every_complaint_is_an_error_with_words(text: str) -> None:
    error = complaints.explained(Complaint("gpu1", "ana", text))
    assert error.what
    assert error.hint


@given(st.text())
def test_what_a_stranger_says_cannot_move_a_cursor(text: str) -> None:
    shown = refusals.clean(text)
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert "\n" not in refusals.sentence(text)


@pytest.mark.parametrize(
    ("ended", "said", "words"),
    [
        (Ended(1), b"This account is currently not available.\n", "login shell"),
        (Ended(1), b"This service allows sftp connections only.\r\n", "only transfer files"),
        (Ended(1), b"", "without a word"),
        (Ended(None), b"", "a signal"),
        (Ended(3, b"\x1b[31mno\n"), b"", "status 3 before it began; it printed:  [31mno"),
        (Ended(None, b"mux_client: Session open refused by peer"), b"", "MaxSessions"),
    ],
)
def test_no_shell(ended: Ended, said: bytes, words: str) -> None:
    error = refusals.no_shell("gpu1", ended, said)
    assert words in error.why
    assert "gpu1" in error.hint


@pytest.mark.parametrize(
    ("prompt", "hint", "kind", "secret"),
    [
        ("Enter passphrase for key '/k': ", "", "passphrase", True),
        ("Enter PIN for ED25519-SK key /k: ", "", "passphrase", True),
        ("ana@gpu1's password: ", "", "password", True),
        ("(ana@gpu1) Verification code: ", "", "keyboard", True),
        ("...\nAre you sure you want to continue connecting (yes/no/[fingerprint])? ", "", "host_key", False),
        ("Please type 'yes', 'no' or the fingerprint: ", "", "host_key", False),
        ("Allow use of key?", "confirm", "confirm", False),
    ],
)
def test_questions_of_ssh(prompt: str, hint: str, kind: str, secret: bool) -> None:
    assert question(prompt, hint) == Question(kind, prompt, secret)


# what a server asks


def challenged(person: Person, prompts: list[tuple[str, bool]], **values: str) -> list[str] | None:
    answers = Answers(config(values={name: [value] for name, value in values.items()}), person, "")
    return asyncio.run(answers.challenge("Two factors", "Look at\x1b]0;evil\x07 your phone.", prompts))


def test_several_prompts_are_asked_in_order() -> None:
    person = Person(keyboard=["123456", "phone"])
    assert challenged(person, [("Code: ", False), ("Device: ", True)]) == ["123456", "phone"]
    first, second = person.asked
    assert first.text == "gpu1 (gpu1.example.org) asks:\nTwo factors\nLook at ]0;evil  your phone.\nCode:"
    assert second.text == "gpu1 (gpu1.example.org) asks:\nDevice:"
    assert (first.secret, second.secret) == (True, False)


def test_who_does_not_answer_once_is_not_asked_again() -> None:
    person = Person(keyboard=["123456"])
    assert challenged(person, [("Code: ", False), ("Device: ", True), ("More: ", True)]) is None
    assert len(person.asked) == 2


def test_a_server_cannot_ask_for_ever() -> None:
    person = Person(keyboard=["x"] * 1000)
    assert challenged(person, [("Code: ", False)] * 1000) is None
    assert len(person.asked) == 20


def test_nothing_is_asked_in_batch_mode() -> None:
    person = Person(keyboard=["x"])
    assert challenged(person, [("Code: ", False)], batchmode="yes") is None
    assert challenged(person, [], batchmode="yes") == []
    assert person.asked == []
