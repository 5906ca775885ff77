"""The decoy and the canary of the fault suite find what they are there for."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.doubles.decoy import FILES, SECRET, Decoy, found


@pytest.mark.parametrize("before", range(4))
def test_a_secret_is_found_in_every_spelling(tmp_path: Path, before: int) -> None:
    words = ("x" * before + SECRET + " and more").encode()
    forms = {"raw": words, "url": quote(words, safe="").encode(), "base64": base64.b64encode(words)}
    for name, form in forms.items():
        (tmp_path / name).write_bytes(b"y" * ((1 << 20) - 7) + form)  # across the border of two blocks
    assert sorted(line.rpartition("/")[2] for line in found(SECRET, tmp_path)) == sorted(forms)


def test_other_text_holds_no_secret(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(SECRET[:-1].encode() + base64.b64encode(SECRET[1:].encode()[::-1]))
    assert not found(SECRET, tmp_path)


def test_a_changed_an_added_and_a_removed_file_are_told(tmp_path: Path) -> None:
    decoy = Decoy(tmp_path)
    assert not decoy.changes()
    (tmp_path / FILES[0]).write_text("evil\n")
    (tmp_path / ".ssh/new").touch()
    (tmp_path / "letters/mother.md").unlink()
    assert len(decoy.changes()) == 3
