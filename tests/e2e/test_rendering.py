"""A conversation where people look at it: in a real browser, by the renderer that we use and by the one that GitHub uses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from opagent.document.edit import new
from opagent.document.render import Look, Reply
from tests.doubles.texts import HEADER, TAG, event, opening

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from docpages import browser, pictures, rendering, samples  # noqa: E402

CORPUS = sorted((ROOT / "tests/corpus/replies").glob("*.md"))
OURS = {
    "a", "blockquote", "code", "del", "details", "h2", "input", "li", "p", "pre", "s", "strong", "summary", "table", "tbody", "td", "th",
    "thead", "tr", "ul",
}  # fmt: skip
NAMES = ["Alice · 2026-11-20 09:14", "Writer · 09:14", "Alice · 09:20", "Writer · 09:20", "Alice"]


@pytest.fixture(scope="module", params=[(name, how) for name in samples.SAMPLES for how in rendering.RENDERERS], ids="-".join)
def shown(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Which conversation, and what a person sees of it."""
    name, how = request.param
    return name, browser.look(rendering.page(samples.SAMPLES[name](), how))


def test_headings_are_seen_and_markers_are_not(shown: tuple[str, dict[str, Any]]) -> None:
    _, seen = shown
    assert seen["headings"] == [[name, "MAIN"] for name in NAMES]
    assert not re.search(r"op:|k7q2 |<!--|-->|</?\w+>|\[!|\]\(|```|\*\*|~~|\|--", seen["text"])
    assert set(seen["elements"]) <= OURS


def test_tool_calls_are_one_line_and_folded(shown: tuple[str, dict[str, Any]]) -> None:
    name, seen = shown
    lines = ["edit book/intro.md +1 −3 · 0.2 s", "run pandoc book.md -o build/book.pdf · 2.9 s"]
    assert [call[0] for call in seen["details"]] == (lines if name == "finished" else lines[:1])
    assert not any(is_open for _, is_open, _ in seen["details"])
    assert all(height < 40 for *_, height in seen["details"])
    assert "stormy" not in seen["text"] and "chapter 3: ok" not in seen["text"]
    assert "read 2 files" in seen["text"]


def test_diffs_are_diffs(shown: tuple[str, dict[str, Any]]) -> None:
    name, seen = shown
    assert seen["diffs"][0].splitlines()[1:5] == [
        "-It was a dark and stormy night", "-```", "-and the rain fell.", "+The wind howled around the lighthouse.",
    ]  # fmt: skip
    assert seen["diffs"][1:] == (["@@ -1,2 +1,2 @@\n The Lighthouse\n-2025\n+2026\n"] if name == "waiting" else [])


def test_alerts_say_what_happened(shown: tuple[str, dict[str, Any]]) -> None:
    name, seen = shown
    kinds = [kind for kind, _ in seen["alerts"]]
    words = "\n".join(text for _, text in seen["alerts"])
    if name == "finished":
        assert kinds == ["alert note", "alert warning"]
        assert "Alice allowed once" in words and "Interrupted: the daemon stopped at 09:21. Send again to go on." in words
    else:
        assert kinds == ["alert important"]
        assert "Writer asks to change a file" in words and "opagent allow p9d4m" in words and "+2026" in words


def test_plans_questions_and_the_send_box_are_boxes(shown: tuple[str, dict[str, Any]]) -> None:
    name, seen = shown
    plan = [["Cut the second and third paragraph", True], ["Build the book", True]]
    asked = [["Allow once", False], ["Allow in this conversation", False], ["Deny", False]]
    assert seen["boxes"] == [*plan, *(asked if name == "waiting" else []), ["Send", False]]


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_a_picture_shows_it(name: str, tmp_path: Path) -> None:
    page = rendering.page(samples.SAMPLES[name]())
    height = browser.look(page)["height"]
    browser.picture(page, tmp_path / "page.png", height)
    width, tall, colours = browser.colours(tmp_path / "page.png")
    assert (width, tall) == (browser.WIDTH, height) and height > 800
    area = width * tall
    assert 0.5 < colours[255, 255, 255] / area < 0.98
    assert sum(count for colour, count in colours.items() if max(colour) < 100) > 2000  # letters
    bars = {"finished": [(9, 105, 218), (154, 103, 0)], "waiting": [(130, 80, 223)]}[name]
    assert all(colours[bar] > 100 for bar in bars)  # the bars of the alerts
    if name == "waiting":
        assert colours[246, 248, 250] / area > 0.05  # the question's blocks are open


def test_the_pictures_of_the_documentation_are_those() -> None:
    page = (ROOT / "docs/concepts/conversation.md").read_text("utf-8")
    assert "conversation-waiting.png" in page
    for name, sample in samples.SAMPLES.items():
        path = pictures.PICTURES / f"conversation-{name}.png"
        assert path.stat().st_size < 200_000
        width, tall, colours = browser.colours(path)
        assert (width, tall) == (browser.WIDTH, browser.look(rendering.page(sample()))["height"])
        assert len(colours) > 20


@pytest.mark.parametrize("how", rendering.RENDERERS)
def test_hostile_replies_do_not_reach_beyond_themselves(how: str) -> None:
    """All of the corpus in one file: each heading after them is seen, as a heading."""
    document = new(HEADER, "alice")
    for number, path in enumerate(CORPUS):
        reply = Reply(TAG, "Writer", Look())
        reply.apply(event("text", {"text": path.read_bytes().decode()}))
        document = document.begin(opening(number, f"Number {number}?")).put(f"a{number:04}", reply.body(), ("done",))
    seen = browser.look(rendering.page(document.content().decode(), how))
    headings = [heading for heading, _ in seen["headings"]]
    for number in range(len(CORPUS)):
        at, day = f"{9 + number // 60:02}:{number % 60:02}", "" if number else "2026-11-20 "
        assert f"Alice · {day}{at}" in headings and f"Writer · {at}" in headings and f"Number {number}?" in seen["text"]
    assert headings[-1] == "Alice" and seen["boxes"][-1] == ["Send", False]


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_a_vault_folds_by_callouts(name: str) -> None:
    """Obsidian does not fold Markdown inside HTML: there a tool call is a folded callout, every line of it quoted."""
    text = samples.SAMPLES[name]("callout")
    assert "<details" not in text
    folded = re.findall(r"^> \[!example\]- (.*)\n((?:>.*\n)+)", text, re.M)
    assert [line for line, _ in folded] == [
        "edit `book/intro.md` +1 −3 · 0.2 s", "run `pandoc book.md -o build/book.pdf` · 2.9 s",
    ][: len(folded)]  # fmt: skip
    assert len(folded) == (2 if name == "finished" else 1)
    for line, body in folded:
        lines = body.splitlines()
        assert lines[0] == ">" and re.fullmatch(r"> (```+)(diff|text)", lines[1]) is not None
        assert lines[1].removesuffix("diff").removesuffix("text") in lines[2:]
        assert "edit" not in line or "> -```" in lines
    seen = browser.look(rendering.page(text))
    assert [heading for heading, _ in seen["headings"]] == NAMES and seen["details"] == []


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(AssertionError, match="chromium is not installed: scripts/system-packages installs it"):
        browser.look("")
    with pytest.raises(AssertionError, match="cmark-gfm is not installed: scripts/system-packages installs it"):
        rendering.cmark_gfm("")


def test_system_packages_says_what_to_do_where_it_cannot_install(tmp_path: Path) -> None:
    """As on a machine without them: a PATH with nothing but a shell's own needs."""
    for name in ("id", "sh"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    done = subprocess.run(
        ["/bin/sh", str(ROOT / "scripts/system-packages")], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stdout == ""
    assert "missing: vim neovim emacs-nox nano rsync git tmux bubblewrap chromium cmark-gfm" in done.stderr
    assert "package manager" in done.stderr


def test_system_packages_is_quiet_when_nothing_is_missing() -> None:
    done = subprocess.run([str(ROOT / "scripts/system-packages")], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
