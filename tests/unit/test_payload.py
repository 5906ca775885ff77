"""The archive for other machines: what is in it, that it is always the same, and that it runs alone."""

from __future__ import annotations

import importlib
import io
import lzma
import os
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import pytest

from opagent import paths
from opagent.remote import payload as module
from opagent.remote import stage0, stage1
from opagent.remote.payload import Payload, pack, payload


@pytest.fixture(autouse=True)
def fresh() -> None:
    payload.cache_clear()


@pytest.fixture(scope="module")
def made() -> Payload:
    return pack({name: path.read_bytes() for name, path in module._sources()})


def names(made: Payload) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(made.data))) as archive:
        return set(archive.getnames())


def test_what_is_in_it(made: Payload) -> None:
    found = names(made)
    assert {"__main__.py", "opagent/landing.py", "opagent/daemon/main.py", "opagent/_bundled/runtimes/echo/runtime.yaml"} <= found
    assert {"yaml/__init__.py", "watchdog/__init__.py", "markdown_it/__init__.py", "mdurl/__init__.py"} <= found
    assert {name.split("/")[1] for name in found if name.startswith("licenses/")} == set(module.PACKAGES.values())
    tops = {name.split("/")[0] for name in found}
    assert not tops & {"asyncssh", "cryptography", "rich", "prompt_toolkit", "psutil", "click"}
    assert not [name for name in found if name.endswith((".so", ".pyc")) or "__pycache__" in name or name.startswith("/")]


def test_the_same_every_time_and_small(made: Payload) -> None:
    again = pack({name: path.read_bytes() for name, path in reversed(list(module._sources()))})
    assert again == made
    assert len(made.data) < 800_000


def test_every_form_is_the_same_archive(made: Payload) -> None:
    archive = lzma.decompress(made.data)
    assert made.packed(["tar", "gz", "xz"]) == ("xz", made.data)
    form, data = made.packed(["gz", "tar"])
    assert (form, zlib.decompress(data)) == ("gz", archive)
    assert made.packed([]) == ("tar", archive)
    for form in ("xz", "gz", "tar"):
        assert {name for name, _ in _arrived(form, made.packed([form])[1], 1 << 16).whole(made.digest)} == names(made)
    with pytest.raises(ValueError, match="not what was sent"):
        _arrived("xz", made.data, 1 << 16).whole("0" * 64)


def _arrived(form: str, data: bytes, size: int) -> stage1.Archive:
    comes = stage1.Archive(form)
    for start in range(0, len(data), size):
        comes.take(data[start : start + size])
    return comes


def test_long_names_and_a_size_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "/".join(["folder"] * 20) + "/file.txt"
    packed = pack({name: b"x"})
    assert (name, b"x") in _arrived("xz", packed.data, 100).whole(packed.digest)
    monkeypatch.setattr(stage1, "FILES_LIMIT", 1000)
    with pytest.raises(ValueError, match="too large"):
        _arrived("xz", packed.data, 100)


@pytest.mark.parametrize("form", ["xz", "gz", "tar"])
def test_bytecode_is_made_while_the_archive_arrives(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack({"arriving/__init__.py": b"", "arriving/answer.py": b"NUMBER = 42\n", "arriving/much.txt": b"x" * 2000})
    comes = _arrived(form, packed.packed([form])[1], 100)
    while comes.compiles():
        pass
    files = comes.whole(packed.digest)
    assert sum(name.endswith(".pyc") for name, _ in files) == 3
    place = stage1.unpack(str(tmp_path / "base"), "ab", "nonce", files)
    assert stage1.whole(place)
    (Path(place) / "arriving/answer.py").write_text("NUMBER = 41\n")
    monkeypatch.syspath_prepend(place)
    assert importlib.import_module("arriving.answer").NUMBER == 42


def test_it_is_kept_and_made_anew_when_something_changed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "lib").mkdir()
    source = home / "lib" / "a.py"
    source.write_text("a = 1\n")
    monkeypatch.setattr(module, "_sources", lambda: [("lib/a.py", source)])
    first = payload()
    kept = paths.payload_cache().read_bytes()
    payload.cache_clear()
    monkeypatch.setattr(module, "pack", lambda _: pytest.fail("it is known"))
    assert payload() == first
    monkeypatch.undo()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(module, "_sources", lambda: [("lib/a.py", source)])
    paths.payload_cache().parent.mkdir(parents=True, exist_ok=True)
    paths.payload_cache().write_bytes(kept[:-3])  # damaged
    payload.cache_clear()
    assert payload() == first
    source.write_text("a = 22\n")
    payload.cache_clear()
    assert payload().digest != first.digest


def test_modules_of_it_run_with_nothing_else(made: Payload, home: Path) -> None:
    where = home / "rt"
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(made.data))) as archive:
        archive.extractall(where, filter="data")
    (where / ".ok").touch()
    command = [sys.executable, "-I", "-S", str(where), "-m", "opagent.daemon.main", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]})
    assert "--ready-fd" in done.stdout


def test_the_line_is_short_and_stage_1_has_no_words_too_new() -> None:
    assert len(stage0.line("0" * 16, "0" * 64)) < 6000
    text = stage0._bare()
    assert "# " not in text
    assert not [word for word in ("f'", 'f"', ":=", "->", "nonlocal", " from error", "*,") if word in text]
