"""README and guides, word for word: every shell block runs in a fresh home, and what is shown is what comes."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
GUIDES = [ROOT / "docs/guides" / name for name in ("first-directory.md", "conversations-in-git.md")]

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXIT = re.compile(r"#.*\bexit code (\d+)")
COMMANDS = ("opagent ", "ln ")  # a text block that begins like this is for a person at a terminal


@dataclass(frozen=True)
class Step:
    """A shell block and what the page shows as its output."""

    script: str
    shown: str
    code: int


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text("utf-8")) if kind == language]


def steps(page: Path) -> Iterator[Step]:
    found = BLOCK.findall(page.read_text("utf-8"))
    for (kind, script), (next_kind, shown) in zip(found, [*found[1:], ("", "")], strict=True):
        if kind == "sh":
            output = next_kind == "text" and not shown.startswith(COMMANDS)
            expected = EXIT.search(script)
            yield Step(script, shown if output else "", int(expected[1]) if expected else 0)


def run(script: str, folder: Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """The block in a shell that stops at the first failure and leaves behind the directory it ended in."""
    return subprocess.run(
        ["bash", "-ec", f"trap 'pwd > \"$HOME/ended-in\"' EXIT\n{script}"],
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip


def normal(text: str) -> str:
    """Ids, times, sizes, names of people and runs of spaces differ from run to run."""
    text = re.sub(r"\d{4}-\d\d-\d\d(T[\d:]+Z)?", "DATE", text)
    text = re.sub(r"\b\d\d:\d\d\b", "TIME", text)
    text = re.sub(r"\b[0-9a-z]{4}-[0-9a-z]{6}\b|(?<=op:)[0-9a-z]{4}\b", "CONVERSATION", text)
    text = re.sub(r"(?m)(?:^|(?<=CONVERSATION )/?|(?<==)|(?<= ))[aupx][0-9a-z]{4}(?=[ \n]|$)", "ID", text)
    text = re.sub(r"\b\d+(\.\d+)? (s|min|h|kB|MB)\b", "AMOUNT", text)
    return re.sub(r"[ \t\xa0]+", " ", text)


def test_a_readme_shows_how_to_run_it_and_how_to_test_it() -> None:
    assert blocks(README, "sh") == [
        'scripts/opagent open workspaces/docs -m "How should headings be written?"\n',
        "scripts/test\n",
    ]
    assert os.access(ROOT / "scripts/test", os.X_OK)


@pytest.fixture
def clone(home: Path) -> Path:
    """What a clone holds, with the packages of this checkout: a developer's own daemon may be at work in the checkout."""
    subprocess.run([ROOT / "scripts/opagent", "--version"], check=True, capture_output=True)
    folder = home / "opagent"
    for name in ("scripts", "workspaces"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("conversations", ".opagent", "__pycache__"))
    (folder / "pyproject.toml").touch()
    os.utime(folder / "pyproject.toml", (0, 0))  # older than what is installed: this clone must never install itself there
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


def test_the_readme_s_command_gives_what_the_readme_shows(clone: Path) -> None:
    done = run(blocks(README, "sh")[0], clone)
    assert done.returncode == 0, done.stderr
    name = re.search(r"workspaces/docs/conversations/\S+\.md", done.stderr)
    assert name, done.stderr
    text = (clone / name[0]).read_text("utf-8")
    person = re.search(r"^## (\w+) ·", text, re.MULTILINE)
    assert person
    text = text.replace(person[1], "Alice").replace(f"you {person[1].lower()}", "you alice")
    assert normal(text).rstrip() == normal(blocks(README, "markdown")[0]).rstrip()
    picture = html.unescape(re.sub(r"<[^>]+>", " ", (ROOT / "docs/pictures/open.svg").read_text("utf-8")))
    seen = re.sub(r"\s+", "", picture)
    for line in done.stdout.splitlines():
        assert re.sub(r"\s+", "", line) in seen


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_a_guide_works_in_its_order(guide: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{ROOT / '.venv/bin'}:{os.environ['PATH']}")
    folder = home
    for step in steps(guide):
        waiting = run("opagent approvals --format ids", folder).stdout.strip() or "none"
        done = run(step.script.replace("p5t2w", waiting), folder)
        said = done.stdout + done.stderr
        assert done.returncode == step.code, f"{step.script}\n{said}"
        folder = Path((home / "ended-in").read_text().strip())
        said = normal(said.replace(str(home), "~"))
        for line in step.shown.splitlines():
            assert normal(line).strip() in said, f"{step.script}\n{said}"


def test_the_question_of_trust_is_the_one_that_is_shown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{ROOT / '.venv/bin'}:{os.environ['PATH']}")
    page = ROOT / "docs/concepts/trust.md"
    folder = home / "docs"
    folder.mkdir()
    (folder / "STYLE.md").write_text("Be brief.\n")
    (folder / ".agent.yaml").write_text(blocks(page, "yaml")[0])
    asked = run("opagent trust . --show", folder).stdout.replace(str(home), "/home/you").splitlines()
    shown = [line for line in blocks(page, "text")[0].splitlines() if not line.startswith("Trust this")]
    programs = [line for line in (*asked, *shown) if line.startswith("  starts")]
    assert [line for line in asked if line not in programs] == [line for line in shown if line not in programs]
    assert len(programs) == 2
    assert all("python -I -S" in line and "runtimes/echo --state=" in line for line in programs)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_fresh_clone_installs_itself_and_answers(home: Path) -> None:
    clone = home / "opagent"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    done = run(blocks(README, "sh")[0], clone, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "style.md:7" in done.stdout
    assert done.stderr.startswith("installing OpAgent into")
    again = run(blocks(README, "sh")[0], clone)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert "installing" not in again.stderr
