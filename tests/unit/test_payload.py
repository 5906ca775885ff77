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
from importlib import util
from pathlib import Path

import psutil
import pytest

from opagent import paths
from opagent.remote import order, place, stage0
from opagent.remote import payload as module
from opagent.remote.payload import Payload, pack, payload
from tests.doubles.patience import until


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
    assert len(made.data) < 760_000


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


def _arrived(form: str, data: bytes, size: int) -> place.Archive:
    comes = place.Archive(form)
    for start in range(0, len(data), size):
        comes.take(data[start : start + size])
    return comes


def test_long_names_and_a_size_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "/".join(["folder"] * 20) + "/file.txt"
    packed = pack({name: b"x"})
    assert (name, b"x") in _arrived("xz", packed.data, 100).whole(packed.digest)
    monkeypatch.setattr(place, "FILES_LIMIT", 1000)
    with pytest.raises(ValueError, match="too large"):
        _arrived("xz", packed.data, 100)


@pytest.mark.parametrize("form", ["xz", "gz", "tar"])
def test_bytecode_of_a_start_is_made_while_the_archive_arrives(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "STARTS", ("arriving.answer",))
    sources = {"arriving/__init__.py": b"", "arriving/answer.py": b"NUMBER = 42\n", "arriving/later.py": b""}
    packed = pack({**sources, "arriving/much.txt": b"x" * 2000})
    target = place.Place(str(tmp_path / "base"), "ab", "nonce")
    comes, data = place.Archive(form), packed.packed([form])[1]
    target.begin()
    for start in range(0, len(data), 100):
        target.put(comes.take(data[start : start + 100]))
    first = [name for name, _ in comes.files[:3]]
    assert first == ["arriving/__init__.py", "arriving/answer.py", place.LAST]
    codes = [util.cache_from_source(os.path.join(target.temporary, name)) for name in first]
    until(lambda: not target.compiles() and all(map(os.path.exists, codes)))
    target.end()
    assert len(comes.whole(packed.digest)) == 5
    there = target.settle()
    assert not os.path.exists(util.cache_from_source(os.path.join(there, "arriving/later.py")))
    assert place.whole(there)
    os.unlink(util.cache_from_source(os.path.join(there, "__main__.py")))
    assert not place.whole(there)
    (Path(there) / "arriving/answer.py").write_text("NUMBER = 41\n")
    monkeypatch.syspath_prepend(there)
    assert importlib.import_module("arriving.answer").NUMBER == 42


@pytest.mark.parametrize("stopped", [False, True])
def test_bytecode_that_cannot_be_written_spoils_the_place(stopped: bool, tmp_path: Path) -> None:
    """By whichever process it was tried; one that is stopped tries nothing."""
    target = place.Place(str(tmp_path / "base"), "ab", "nonce")
    target.put([("spoiled/__pycache__", b"a file where a directory has to be")])
    target.begin()
    second = psutil.Process(target.second)
    if stopped:
        second.suspend()
    target.put([("broken.py", b"("), ("spoiled/one.py", b"1")])
    if stopped:
        assert target.compiles() and not target.compiles()
        second.resume()
    else:
        until(lambda: second.status() == psutil.STATUS_ZOMBIE)
    target.end()
    with pytest.raises(OSError, match=r"File exists|could not be written"):
        target.settle()
    target.clear()
    assert not os.path.exists(target.temporary)


def test_more_than_fits_into_the_queue_is_written_all_the_same(tmp_path: Path) -> None:
    target = place.Place(str(tmp_path / "base"), "ab", "nonce")
    target.begin()
    target.put([(f"many/m{number}.py", b"") for number in range(1000)])
    target.end()
    there = target.settle()
    assert len([name for name in os.listdir(os.path.join(there, "many")) if name.endswith(".py")]) == 1000
    assert place.whole(there)


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


@pytest.fixture
def there(made: Payload, home: Path) -> Path:
    """The archive as it lies on another machine."""
    where = home / "rt"
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(made.data))) as archive:
        archive.extractall(where, filter="data")
    (where / ".ok").touch()
    return where


def alone(*words: str) -> str:
    """What a bare interpreter prints."""
    command = [sys.executable, "-I", "-S", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}).stdout


def test_modules_of_it_run_with_nothing_else(there: Path) -> None:
    assert "--ready-fd" in alone(str(there), "-m", "opagent.daemon.main", "--help")


STARTED = """\
import sys
sys.path.insert(0, sys.argv[1])
import opagent.landing, opagent.daemon.main
print(*(name for name, module in sys.modules.items() if (getattr(module, "__file__", "") or "").startswith(sys.argv[1])))
"""


def test_what_a_start_imports_comes_first_and_nothing_else_does(made: Payload, there: Path) -> None:
    """So it is compiled while the rest is on its way. No parser of Markdown and no HTTP is in the way of a start."""
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(made.data))) as archive:
        inside = archive.getnames()
    loaded = {_file(there, module) for module in alone("-c", STARTED, str(there)).split()}
    assert set(inside[: len(loaded)]) == loaded
    assert "opagent/daemon/host.py" in loaded
    assert not loaded & {"markdown_it/__init__.py", "opagent/process/httptool.py", "opagent/daemon/runtimework.py"}


def _file(there: Path, module: str) -> str:
    path = module.replace(".", "/")
    return f"{path}.py" if (there / f"{path}.py").exists() else f"{path}/__init__.py"


EVERY = """\
import importlib, sys, warnings
sys.path.insert(0, sys.argv[1])
warnings.simplefilter("ignore")
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
    except Exception:
        print(name)
"""


def test_what_is_left_out_of_libraries_is_missed_by_none_of_their_modules(made: Payload, there: Path) -> None:
    found = sorted(name for name in names(made) if name.endswith(".py") and name.split("/")[0] in module.PACKAGES)
    modules = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in found]
    assert len(modules) > 100 and not {"watchdog.watchmedo", "markdown_it.cli", "yaml.cyaml"} & set(modules)
    elsewhere = {"watchdog.observers.kqueue"} if sys.platform == "linux" else set()
    assert set(alone("-c", EVERY, str(there), *modules).split()) == elsewhere


def test_the_order_is_read_from_import_lines_alone() -> None:
    files = {
        "opagent/__init__.py": b"",
        "opagent/landing.py": b"from opagent import (\n    z,  # why, and (more\n    b as c,\n)\nif x:\n    import opagent.later\n",
        "opagent/z.py": b"import os, theirs.deep as t\n",
        "opagent/b.py": b"def f():\n    from opagent import later\n",
        "opagent/later.py": b"",
        "opagent/broken.py": b"\xff",  # nobody imports it, so nobody reads it
        "theirs/__init__.py": b"from .one import thing\nfrom . import two\n",
        "theirs/one.py": b"",
        "theirs/two.py": b"",
        "theirs/deep/__init__.py": b"from ..three import x\nimport opagent.z\n",
        "theirs/three.py": b"",
    }
    assert order.needed(files) == [
        "opagent/__init__.py", "opagent/landing.py", "opagent/z.py", "theirs/__init__.py", "theirs/deep/__init__.py",
        "theirs/three.py", "theirs/one.py", "theirs/two.py", "opagent/b.py",
    ]  # fmt: skip
    assert order.needed(dict(reversed(files.items()))) == order.needed(files)
    assert order.needed({}) == []


def test_the_line_is_short_and_stage_1_has_no_words_too_new() -> None:
    assert len(stage0.line("0" * 16, "0" * 64)) < 6500
    text = stage0._bare()
    assert "# " not in text
    assert not [word for word in ("f'", 'f"', ":=", "->", "nonlocal", " from error", "*,") if word in text]
