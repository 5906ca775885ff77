"""A conversation in vim, nvim, Emacs and nano: asked, answered, typed ahead, allowed and denied, all by editing and saving."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.doubles.editors import Editor
from tests.doubles.patience import until
from tests.editors.conftest import Desk
from tests.integration.test_filerights import UNSANDBOXED, configure

NAMES = ("vim", "nvim", "emacs", "nano")
Make = Callable[..., Desk]


def sees(desk: Desk, editor: Editor, name: str, words: str) -> Editor:
    """The editor that shows the words: it loads the file again by itself, or a person opens it anew."""
    if editor.program.reload:
        editor.sees(words)
        return editor
    editor.quit()
    return desk.open(name, shows=words)


@pytest.mark.parametrize("name", NAMES)
def test_a_question_is_sent_once_and_the_answer_is_seen(name: str, desk: Make) -> None:
    at = desk()
    editor = at.open(name, reload=True)
    editor.type("one cup of tea\n/send")
    editor.save()
    at.sent(1)
    editor = sees(at, editor, name, "echo: one cup of tea")
    editor.type("another cup")  # below the box
    editor.replace("[ ] **Send**", "[x] **Send**")
    editor.save()
    at.sent(2)
    sees(at, editor, name, "echo: another cup")
    at.sent_only("one cup of tea", "another cup")


@pytest.mark.parametrize("name", NAMES)
def test_the_librarian_answers_out_of_the_files(name: str, desk: Make) -> None:
    at = desk("librarian")
    (at.talk.directory / "garden.md").write_text("# Garden\n\n## Watering\n\nWater the tomatoes in the morning, twice a week.\n")
    editor = at.open(name, reload=True)
    editor.type("When do I water the tomatoes?\n/send")
    editor.save()
    assert "garden.md" in at.reply(at.sent(1))
    sees(at, editor, name, "> Water the tomatoes in the morning")
    assert at.texts() == ["When do I water the tomatoes?"]


@pytest.mark.parametrize("name", NAMES)
def test_typing_ahead_without_loading_the_reply_that_streams(name: str, desk: Make) -> None:
    """The editor warns, a person says yes, and what was streamed is gone from the disk: it comes back, and theirs stays."""
    at = desk()
    editor = at.open(name)
    editor.type("/slow 100000 0.02\n/send")
    editor.save()
    turn = at.sent(1, ended=False)
    at.holds("\n1 2 3 ")
    editor.type("a second cup")
    editor.save()
    editor.until(lambda: "a second cup" in at.text() and "1 2 3 " in at.text())
    editor.type("/send")  # from the same old buffer
    editor.save()
    editor.until(lambda: "Sent when what runs has ended" in at.text())
    at.cancel()
    at.sent(1)
    assert at.reply(turn).split()[4 : 4 + len(at.said(turn).split())] == at.said(turn).split()
    assert at.reply(at.sent(2)).split()[-4:] == ["echo:", "a", "second", "cup"]
    assert "E949" not in editor.drawn
    at.sent_only("/slow 100000 0.02", "a second cup")
    assert at.text().count("a second cup") == 2  # asked and answered


@pytest.mark.parametrize("name", ["vim", "nvim", "emacs"])
def test_nothing_is_streamed_under_unsaved_changes(name: str, desk: Make) -> None:
    """vim would refuse to save: `E949: File changed while writing`."""
    at = desk()
    editor = at.open(name)
    turn = at.talk.start(at.conversation, "/slow 100000 0.02")
    at.holds("\n1 2 3 ")
    editor.type("typed and not saved")
    chunks = lambda: len(at.said(turn).split())  # noqa: E731
    so_far = chunks()
    until(lambda: chunks() > so_far + 20)  # a write that had begun is over
    held = at.text()
    until(lambda: chunks() > so_far + 150)  # three seconds
    assert at.text() == held
    editor.save()
    editor.until(lambda: "typed and not saved" in at.text() and len(at.text()) > len(held) + 200)
    assert "E949" not in editor.drawn
    at.cancel()
    at.sent(1)
    assert at.draft().count("typed and not saved") == at.text().count("typed and not saved") == 1


@pytest.mark.parametrize("name", NAMES)
def test_boxes_of_an_approval(name: str, desk: Make) -> None:
    configure(UNSANDBOXED)
    at = desk()
    for file, old, new, shown in (
        ("tea.txt", "[ ] Allow once", "[x] Allow once", "allowed once**"),
        ("milk.txt", "[ ] Deny", "[x] Deny: not today", "denied**"),
    ):
        at.talk.start(at.conversation, f"/permission write {file} two cups")
        at.holds(" open -->")
        editor = at.open(name, shows=old)
        editor.replace(old, new)
        editor.save()
        editor.until(lambda: shown in at.text())  # noqa: B023
        editor.quit()
        at.sent(1 + (file == "milk.txt"))
    assert (at.talk.directory / "tea.txt").read_text() == "two cups"
    assert not (at.talk.directory / "milk.txt").exists()
    assert "not today" in at.text() and "[x]" not in at.text()
    assert not at.talk.approvals()
