"""known_hosts: what matches, what a new line is, against ssh-keygen."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opagent.remote import hostkeys
from tests.doubles.sshd import fingerprint, generate, public

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAabIPnuFhsIDRDOWqDHDZFqmkYZnqNkVDJhpmdw8Pof"


def found(line: str, *names: str) -> list[hostkeys.Entry]:
    return hostkeys.parse("f", line, list(names))


@pytest.mark.parametrize(
    ("patterns", "name", "matches"),
    [
        ("gpu1", "gpu1", True),
        ("gpu1", "gpu2", False),
        ("gpu?", "gpu2", True),
        ("*.example.org", "a.example.org", True),
        ("*.example.org,!b.example.org", "b.example.org", False),
        ("!b.example.org,*.example.org", "b.example.org", False),
        ("one,two,10.0.0.1", "10.0.0.1", True),
        ("[gpu1]:2222", "[gpu1]:2222", True),
        ("[gpu1]:2222", "gpu1", False),
        ("[gpu1]:2222", "[gpu1]:22222", False),
        ("[*]:2222", "[gpu1]:2222", True),
        ("GPU1", "gpu1", True),
        ("[a-z]pu1", "gpu1", False),
        ("|1|broken", "gpu1", False),
        ("|1|!!|!!", "gpu1", False),
    ],
)
def test_patterns(patterns: str, name: str, matches: bool) -> None:
    assert bool(found(f"{patterns} {KEY} comment", name)) is matches


def test_lines_that_say_nothing_are_passed_over() -> None:
    text = f"# a comment\n\ngpu1\ngpu1 {KEY.split()[0]}\n@unknown gpu1 {KEY}\ngpu1 ssh-ed25519 not*base64\n@revoked gpu1 {KEY}\n"
    entries = found(text, "gpu1")
    assert [(entry.marker, entry.line) for entry in entries] == [("revoked", 7)]
    assert entries[0].text == KEY
    assert entries[0].place == "f:7"


def test_names_hashed_by_ssh_keygen_are_found(home: Path) -> None:
    file = home / "known_hosts"
    file.write_text(f"gpu1 {KEY}\n[gpu2]:2222 {KEY}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    assert "gpu" not in file.read_text()
    assert len(hostkeys.look_up([str(file)], ["gpu1"])) == 1
    assert len(hostkeys.look_up([str(file)], ["[gpu2]:2222"])) == 1
    assert hostkeys.look_up([str(file), str(home / "none")], ["gpu3", ""]) == []


@given(st.from_regex(r"[a-z][a-z0-9.-]{0,30}", fullmatch=True), st.integers(1, 65535), st.booleans())
def test_a_line_that_is_written_is_found(host: str, port: int, hashed: bool) -> None:
    name = hostkeys.host_name(host, port)
    blob = found(f"x {KEY}", "x")[0].blob
    line = hostkeys.line_for(name, blob, hashed)
    assert [entry.blob for entry in found(line, name)] == [blob]
    assert found(line, "other-" + name) == []


@pytest.mark.parametrize("hashed", [False, True])
def test_ssh_keygen_finds_what_is_written(home: Path, hashed: bool) -> None:
    key, file = generate(home / "k"), home / ".ssh/known_hosts"
    blob = found(f"x {public(key)}", "x")[0].blob
    assert hostkeys.fingerprint(blob) == fingerprint(key)
    hostkeys.add(str(file), hostkeys.line_for("[gpu1]:2222", blob, hashed))
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    said = subprocess.run(["ssh-keygen", "-F", "[gpu1]:2222", "-f", str(file)], capture_output=True, text=True, check=True).stdout
    assert public(key) in said


def test_a_file_without_a_last_newline_is_not_glued_to(home: Path) -> None:
    file = home / "known_hosts"
    file.write_text(f"gpu1 {KEY}")
    hostkeys.add(str(file), f"gpu2 {KEY}\n")
    assert file.read_text() == f"gpu1 {KEY}\ngpu2 {KEY}\n"


def test_kinds_are_spoken_as_ssh_does() -> None:
    names = ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com", "ssh-ed25519-cert-v01@openssh.com"]
    assert [hostkeys.spoken(name) for name in names] == ["ED25519", "RSA", "ECDSA", "ED25519-SK", "ED25519"]
