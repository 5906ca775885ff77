"""A conversation under sed, git, rsync, formatters and every way to save: a gesture of a person sends once, what was brought nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from opagent.document.parse import scan
from tests.doubles.patience import PATIENCE
from tests.doubles.terminal import run
from tests.editors.conftest import Desk
from tests.integration.test_watch import WAYS, appended

Make = Callable[..., Desk]


def program(*argv: str, cwd: Path) -> str:
    assert shutil.which(argv[0]), f"{argv[0]} is not installed: scripts/system-packages installs it"
    return subprocess.run(argv, cwd=cwd, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout


def git(cwd: Path, *words: str) -> None:
    program("git", "-c", "user.name=Alice", "-c", "user.email=alice@example.org", *words, cwd=cwd)


def ids(content: str) -> list[str]:
    return [region.id for region in scan(content.encode()) if region.part.turn]


def test_every_way_to_save(desk: Make) -> None:
    at = desk()
    asked: list[str] = []
    for save in WAYS:
        if save is appended:
            continue
        save(at.path, at.holds("next after=" if asked else "next").encode() + f"by {save.__name__}\n/send\n".encode())
        asked.append(f"by {save.__name__}")
        at.sent(len(asked))
        at.holds(f"echo: by {save.__name__}")
    at.sent_only(*asked)
    assert [at.text().count(f"\nby {save.__name__}\n") for save in WAYS if save is not appended] == [1] * len(asked)


def test_an_editor_that_saves_at_every_key(desk: Make) -> None:
    """In place, longer and longer, as VS Code does: half a gesture is none."""
    at = desk()
    with at.path.open("r+b", buffering=0) as file:
        before = file.read()
    typed = b"tea, and /send it\n/send"
    for end in range(1, len(typed) + 1):
        with at.path.open("r+b", buffering=0) as file:
            file.write(before + typed[:end])
            file.truncate()
        at.turns()
    at.sent(1)
    at.sent_only("tea, and /send it")


def test_sed(desk: Make) -> None:
    at = desk()
    program("sed", "-i", "-e", "$a a cup of tea", str(at.path), cwd=at.home)
    program("sed", "-i", "-e", "$a /send", str(at.path), cwd=at.home)
    at.sent(1)
    program("sed", "-i", "-e", "s/^a cup of tea/two cups of tea/", str(at.path), cwd=at.home)
    program("sed", "-i", "-e", r"s/\[ \] \*\*Send/[x] **Send/", str(at.path), cwd=at.home)  # nothing is in the draft
    at.sent_only("a cup of tea")
    assert "\ntwo cups of tea\n" in at.text()


@pytest.mark.parametrize("how", ["checkout", "stash pop", "pull"])
def test_what_git_brings_sends_nothing(how: str, desk: Make) -> None:
    at = desk()
    at.talk.say(at.conversation, "one")
    at.holds("echo: one")
    notes, elsewhere = at.talk.directory, at.home / "elsewhere"
    git(notes, "init", "-b", "main")
    git(notes, "add", "conversations")
    git(notes, "commit", "-m", "talk")
    git(at.home, "clone", str(notes), str(elsewhere))
    with (elsewhere / at.path.relative_to(notes)).open("a") as file:
        file.write("typed elsewhere\n/send\n")
    if how == "stash pop":
        git(elsewhere, "stash")
        git(notes, "fetch", str(elsewhere), "refs/stash")
        git(notes, "stash", "store", "FETCH_HEAD")
        git(notes, "stash", "pop")
    else:
        git(elsewhere, "commit", "-am", "more")
        if how == "pull":
            git(notes, "pull", str(elsewhere), "main")
        else:
            git(notes, "fetch", str(elsewhere), "main:there")
            git(notes, "checkout", "there")
    at.holds("typed elsewhere\n/send\n", "Not sent: git brought this change")
    at.sent_only("one")
    assert "typed elsewhere\n/send\n" in at.draft()
    assert run("send", str(at.path)).returncode == 0
    assert at.sent(3)["text"].strip() == "typed elsewhere"


def test_rsync_of_the_own_file_and_of_a_strangers(desk: Make) -> None:
    at = desk()
    at.talk.say(at.conversation, "one")
    elsewhere = at.home / "elsewhere"
    program("rsync", "-a", f"{at.path.parent}/", f"{elsewhere}/", cwd=at.home)
    with (elsewhere / at.path.name).open("a") as file:
        file.write("typed on another machine\n/send\n")
    program("rsync", "-a", f"{elsewhere}/", f"{at.path.parent}/", cwd=at.home)
    assert at.sent(2)["text"].strip() == "typed on another machine"

    tag, _, rest = at.conversation["id"].partition("-")
    stranger = (
        at.text().replace(f"op:{tag} ", "op:zzzz ").replace(f"{tag}-{rest}", "zzzz-zzzzzz") + "typed by a stranger\n/send\n"
    )
    (elsewhere / "stranger.md").write_text(stranger)
    program("rsync", "-a", f"{elsewhere}/stranger.md", f"{at.path.parent}/", cwd=at.home)
    theirs = Desk(at.talk, at.home, {"id": "zzzz-zzzzzz", "path": str(at.path.with_name("stranger.md"))})
    theirs.holds("Not sent: its last turn did not happen here")
    assert theirs.texts() == []
    assert run("send", str(theirs.path)).returncode == 0
    assert theirs.sent(1)["text"].strip() == "typed by a stranger"
    at.sent_only("one", "typed on another machine")


def formatted(text: str) -> str:
    """As a formatter on save leaves a Markdown file: no blanks at line ends, one empty line between blocks, one kind of list mark."""
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^[*+] ", "- ", text, flags=re.MULTILINE)
    text = re.sub(r"^(#+ .*)\n(?!\n)", r"\1\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"(?<!\n)\n(<!-- op:)", r"\n\n\1", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


def test_a_formatter_after_the_reply_and_under_it(desk: Make) -> None:
    at = desk()
    at.talk.say(at.conversation, "* one\n+ two  \n\n\n\n# three\nfour")
    with at.path.open("a") as file:
        file.write("\n\n\n* not sent yet  \n")
    at.holds("not sent yet")
    before = ids(at.text())
    at.path.write_text(formatted(at.text()))
    turn = at.talk.start(at.conversation, "/slow 100000 0.02")
    at.holds("\n1 2 3 ")
    at.path.write_text(formatted(at.text()))
    said = at.said(turn).split()
    at.holds(f" {said[-1]} ")
    at.cancel()
    at.sent(2)
    assert at.reply(turn).split()[4 : 4 + len(at.said(turn).split())] == at.said(turn).split()
    assert ids(at.text())[: len(before)] == before and len(ids(at.text())) == len(before) + 2
    assert at.text().count("not sent yet") == 1 and "- not sent yet\n" in at.draft() and "1 2" not in at.draft()
    at.sent_only("* one\n+ two  \n\n\n\n# three\nfour", "/slow 100000 0.02")
