"""When a gesture in the file counts, what the front matter asks for, and what becomes of older turns that a person edits."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from opagent import paths
from opagent.client import Client
from opagent.document.parse import Part
from opagent.watch import gitstate
from tests.doubles import runtimes
from tests.doubles.patience import until
from tests.doubles.sheet import BOX, Sheet
from tests.integration.conftest import Talk
from tests.integration.test_filerights import UNSANDBOXED, configure
from tests.integration.test_saves import SLOW, cancel, running, watched

ELSEWHERE = """---
opagent: 1
conversation: k7q2-m4x8p3
agent: echo
---

<!-- op:k7q2 u3f9k you alice 2026-11-20T09:14:03Z -->
## Alice

the password is swordfish

<!-- op:k7q2 a8c2d agent echo 2026-11-20T09:14:05Z re=u3f9k -->
## Echo

echo: the password is swordfish

<!-- op:k7q2 /a8c2d done 2026-11-20T09:16:31Z -->

<!-- op:k7q2 next after=a8c2d -->
## Root

what is it?

/send
"""


def git(folder: Path, *words: str) -> None:
    told = ("git", "-c", "user.name=A", "-c", "user.email=a@b", *words)
    subprocess.run(told, cwd=folder, check=True, capture_output=True)


def refused(sheet: Sheet, why: str) -> None:
    """The note says why, and so do the commands; then the command sends it all the same."""
    number = len(sheet.turns())
    sheet.holds("Not sent: ", why)
    shown = sheet.holds("`opagent send conversations/")
    assert why in str(sheet.listed()["not_sent"]) and why in str(sheet.queue()["draft"]["refused"])
    assert "/send" in shown
    by_hand(sheet)
    sheet.sent(number + 1)
    sheet.lacks("Not sent")
    assert "/send" not in sheet.draft()


def by_hand(sheet: Sheet, **more: Any) -> dict[str, Any]:
    params = {"conversation": sheet.conversation["id"], "environment": dict(os.environ), **more}
    return dict(sheet.talk.client.request("turn/start", params)["turn"])


# ---- the four conditions -------------------------------------------------------------------------------------------------


def test_a_file_that_others_may_write_sends_nothing(talk: Talk) -> None:
    sheet = Sheet(talk, talk.create())
    sheet.path.chmod(0o666)
    sheet.type("tea\n\n/send")
    sheet.holds("Not sent: ")
    sheet.path.chmod(0o600)
    sheet.type("more")  # above the gesture no longer: text below it
    sheet.lacks("Not sent")
    sheet.sent_only()
    sheet.path.chmod(0o622)
    sheet.change("more\n", "more\n\n/send\n")
    refused(sheet, str(sheet.path))


def test_a_change_that_git_brought_sends_nothing(talk: Talk) -> None:
    sheet = Sheet(talk, talk.create())
    git(talk.directory, "init")
    git(talk.directory, "add", "conversations")
    git(talk.directory, "commit", "-m", "one")
    until(lambda: not gitstate.brought(str(sheet.path), time.time_ns()))
    sheet.type("tea\n\n/send")
    sheet.sent(1)
    lock = talk.directory / ".git/index.lock"
    lock.touch()
    sheet.type("milk\n\n/send")
    refused(sheet, "git brought this change")
    lock.unlink()
    sheet.type("water\n\n/send")
    sheet.sent(3)
    sheet.sent_only("tea", "milk", "water")


def test_a_branch_that_is_checked_out_sends_nothing(talk: Talk) -> None:
    sheet = Sheet(talk, talk.create())
    before = sheet.text()
    git(talk.directory, "init")
    git(talk.directory, "add", "conversations")
    git(talk.directory, "commit", "-m", "one")
    git(talk.directory, "checkout", "-b", "other")
    talk.stop_daemon()
    sheet.save(before.replace(BOX, f"from the branch\n\n/send\n\n{BOX}"))
    git(talk.directory, "commit", "-am", "two")
    git(talk.directory, "checkout", "-")
    talk.client.request("conversation/show", {"conversation": sheet.conversation["id"]})
    talk.client.request("workspace/open", {"path": str(sheet.path), "environment": dict(os.environ)})
    git(talk.directory, "checkout", "other")
    refused(sheet, "git brought this change")


@pytest.mark.parametrize("busy", [False, True])
def test_an_older_branch_is_honoured_while_nothing_runs(talk: Talk, busy: bool) -> None:
    sheet = Sheet(talk, talk.create())
    for number, text in enumerate(("tea", "milk"), 1):
        sheet.type(f"{text}\n\n/send")
        sheet.sent(number)
        if number == 1:
            git(talk.directory, "init")
            git(talk.directory, "add", "conversations")
            git(talk.directory, "commit", "-m", "one")
            git(talk.directory, "branch", "older")
            until(lambda: not gitstate.brought(str(sheet.path), time.time_ns()))
    git(talk.directory, "commit", "-am", "two")
    if busy:
        running(sheet)
    git(talk.directory, "checkout", "-f", "older")
    sheet.told("restored" if busy else "reverted", 2)
    if busy:
        cancel(sheet)
        assert "echo: milk" in sheet.holds(" cancelled ")
    else:
        sheet.sent_only("tea", "milk")
        assert "echo: milk" not in sheet.text() and "echo: tea" in sheet.text()


def test_what_is_written_into_a_branch_at_once_brings_back_no_turn_of_another(talk: Talk) -> None:
    """A script checks a branch out and writes into it before the daemon has looked."""
    sheet = Sheet(talk, talk.create())
    talk.say(sheet.conversation, "tea")
    sheet.holds("echo: tea")
    git(talk.directory, "init")
    git(talk.directory, "add", "conversations")
    git(talk.directory, "commit", "-m", "one")
    git(talk.directory, "branch", "older")
    talk.say(sheet.conversation, "milk")
    sheet.holds("echo: milk")
    git(talk.directory, "commit", "-am", "two")
    daemon = talk.client.greeting.daemon
    os.kill(daemon, signal.SIGSTOP)
    try:
        git(talk.directory, "checkout", "older")
        sheet.path.write_text(sheet.text() + "a note\n")
        git(talk.directory, "commit", "-am", "three")
    finally:
        os.kill(daemon, signal.SIGCONT)
    talk.say(sheet.conversation, "water")
    text = sheet.holds("echo: water")
    assert "milk" not in text and "a note" in text and "echo: tea" in text


def test_a_file_that_git_has_unmerged_is_left_alone(talk: Talk) -> None:
    sheet = Sheet(talk, talk.create())
    sheet.type("tea\n\n/send")
    turn = sheet.sent(1)
    content = sheet.text().replace(BOX, f"<<<<<<< HEAD\nours\n=======\ntheirs\n>>>>>>> other\n\n/send\n\n{BOX}")
    sheet.save(content)
    until(lambda: "unmerged" in str(sheet.listed().get("problem")))
    said = talk.say(sheet.conversation, "and more")
    assert sheet.text() == content
    sheet.save(content.replace("<<<<<<< HEAD\nours\n=======\n", "").replace(">>>>>>> other\n", ""))
    assert sheet.sent(3)["text"] == "theirs"
    sheet.holds(f"/{said['id']} done", f"/{turn['id']} done")
    assert "problem" not in sheet.listed()


def test_a_reply_that_quotes_a_conflict_is_not_unmerged(talk: Talk) -> None:
    sheet = Sheet(talk, talk.create())
    sheet.type("why this?\n<<<<<<< HEAD\n\n/send")
    until(lambda: "unmerged" in str(sheet.listed().get("problem")))  # in the draft it looks like git's own
    sheet.change("\n<<<<<<< HEAD", "\n `<<<<<<< HEAD`")
    sheet.sent(1)
    sheet.talk.say(sheet.conversation, "<<<<<<< HEAD\nmine")
    sheet.type("go on\n\n/send")
    assert sheet.sent(3)["text"] == "go on"


@pytest.mark.parametrize("while_watched", [True, False])
def test_a_file_from_elsewhere_sends_nothing_until_a_person_did(talk: Talk, while_watched: bool) -> None:
    runtimes.bind(talk.client, talk.directory, "echo")
    folder = watched(talk) if while_watched else talk.directory / "conversations"
    folder.mkdir(exist_ok=True)
    path = folder / "elsewhere.md"
    path.write_text(ELSEWHERE)
    if not while_watched:
        talk.client.request("workspace/open", {"path": str(path), "environment": dict(os.environ)})
    conversation = until(lambda: _listed(talk, path))
    sheet = Sheet(talk, conversation)
    talk.client.request("queue/list", {"conversation": sheet.conversation["id"]})
    if not while_watched:
        sheet.change("what is it?", "what was it?")
    sheet.holds("its last turn did not happen here")
    by_hand(sheet)
    turn = sheet.sent(1)
    assert turn["text"] in ("what is it?", "what was it?")
    sheet.type("/context\n\n/send")  # it lives here now
    assert "swordfish" in sheet.said(sheet.sent(2)) or "swordfish" in sheet.text()


def _listed(talk: Talk, path: Path) -> dict[str, Any] | None:
    found = talk.client.request("conversation/list", {"all": True})["conversations"]
    return next((one for one in found if one["path"] == str(path)), None)


def test_a_file_without_turns_that_was_there_before_sends_nothing(talk: Talk) -> None:
    runtimes.bind(talk.client, talk.directory, "echo")
    folder = talk.directory / "conversations"
    folder.mkdir()
    path = folder / "before.md"
    path.write_text("---\nopagent: 1\nconversation: k7q2-m4x8p3\nagent: echo\n---\n\ntea\n\n/send\n")
    talk.client.request("workspace/open", {"path": str(path), "environment": dict(os.environ)})
    sheet = Sheet(talk, talk.client.request("conversation/show", {"conversation": str(path)})["conversation"])
    sheet.talk.client.request("queue/list", {"conversation": sheet.conversation["id"]})
    refused(sheet, "it was here before OpAgent looked")


def test_a_gesture_that_did_not_count_counts_when_it_is_saved_once_more(talk: Talk) -> None:
    sheet = Sheet(talk, talk.create())
    sheet.path.chmod(0o622)
    sheet.type("tea\n\n/send")
    sheet.holds("Not sent: ")
    sheet.path.chmod(0o600)
    sheet.sent_only()  # a mode is no save
    sheet.save(sheet.bytes())
    assert sheet.sent(2)["text"] == "tea"


def test_a_command_that_does_not_count_says_so(talk: Talk) -> None:
    sheet = Sheet(talk, talk.create())
    turn = running(sheet)
    sheet.path.chmod(0o622)
    sheet.type("/cancel")
    sheet.holds("`/cancel` does not count: ")
    assert talk.turn(sheet.conversation, turn["id"])["state"] == "running"
    sheet.path.chmod(0o600)
    sheet.save(sheet.bytes())
    assert talk.ended(sheet.conversation, turn["id"])["state"] == "cancelled"


# ---- the front matter ----------------------------------------------------------------------------------------------------


def headed(sheet: Sheet, line: str) -> None:
    """A line more in the front matter."""
    sheet.change("\nopagent: 1\n", f"\nopagent: 1\n{line}\n")


def test_the_title_is_what_the_file_says(talk: Talk) -> None:
    sheet = Sheet(talk, talk.create(title="Tea"))
    sheet.change("title: Tea", "title: 'Coffee: strong'  # for now")
    until(lambda: sheet.listed()["title"] == "Coffee: strong")
    talk.say(sheet.conversation, "one")
    assert "title: 'Coffee: strong'  # for now\n" in sheet.holds("echo: one")


def test_a_file_that_is_not_to_be_written_is_neither_written_nor_obeyed(talk: Talk) -> None:
    sheet = Sheet(talk, talk.create())
    headed(sheet, "write: off")
    sheet.type("tea\n\n/send")
    content = sheet.text()
    talk.say(sheet.conversation, "is that all?")
    assert sheet.texts() == ["is that all?"] and sheet.text() == content
    sheet.change("write: off\n", "")
    assert sheet.sent(2)["text"] == "tea"
    assert sheet.text().index("echo: is that all?") < sheet.text().index("echo: tea")


def test_a_file_that_is_written_by_turns_shows_no_text_that_streams(talk: Talk) -> None:
    sheet = Sheet(talk, talk.create())
    headed(sheet, "write: turn")
    sheet.type("/slow 100 0.03\n\n/send")  # three seconds
    turn = sheet.sent(1, "running")
    sheet.holds(f" {turn['id']} agent ")
    seen = set()
    while talk.turn(sheet.conversation, turn["id"])["state"] == "running":
        seen.add(sheet.text())
    assert all("1 2 3" not in text or f"/{turn['id']} done" in text for text in seen)
    assert "1 2 3" in sheet.holds(f"/{turn['id']} done")


def test_show_and_fold_say_how_replies_look(talk: Talk) -> None:
    sheet = Sheet(talk, talk.create())
    headed(sheet, "show: [plan, usage]\nfold: callout")
    sheet.type("/tool\n\n/send")
    assert "<details>" not in sheet.region(sheet.sent(1)["id"]).body.decode()
    sheet.change("show: [plan, usage]\n", "show: [tools]\n")
    sheet.type("/tool\n\n/send")
    assert "> [!example]-" in sheet.region(sheet.sent(2)["id"]).body.decode()


def test_an_archived_conversation_is_not_listed(talk: Talk) -> None:
    sheet = Sheet(talk, talk.create())
    headed(sheet, "archived: true")
    here = lambda: talk.client.request("conversation/list", {"path": str(talk.directory)})["conversations"]  # noqa: E731
    until(lambda: not here())
    assert sheet.listed()["id"] == sheet.conversation["id"]
    sheet.change("archived: true", "archived: false")
    until(here)


def test_another_agent_of_the_binding_takes_over_and_none_else(talk: Talk) -> None:
    runtimes.bind(talk.client, talk.directory, "echo", roles={"second": {"runtime": "echo"}})
    sheet = Sheet(talk, talk.create())
    sheet.type("the password is swordfish\n\n/send")
    sheet.sent(1)
    sheet.change("agent: echo", "agent: librarian")
    sheet.holds("`agent: librarian` names no role")
    sheet.change("\nagent: librarian\n", "\nagent: second\n")
    sheet.type("/context\n\n/send")
    turn = sheet.sent(2)
    assert "swordfish" in sheet.said(turn) and "new=1" in sheet.said(turn)
    assert sheet.region(turn["id"]).words[1] == "second" and sheet.listed()["agent"] == "second"


def test_a_front_matter_that_cannot_be_read_is_left_alone(talk: Talk) -> None:
    sheet = Sheet(talk, talk.create())
    headed(sheet, "tags: [a")
    sheet.told("front matter")
    sheet.type("tea\n\n/send")
    sheet.sent(1)
    assert "\nopagent: 1\ntags: [a\nconversation: " in sheet.text()


# ---- what was said before ------------------------------------------------------------------------------------------------


def told_again(sheet: Sheet, number: int) -> str:
    """What the agent says it was told of the conversation, in the next turn."""
    sheet.type("/context\n\n/send")
    return sheet.said(sheet.sent(number))


@pytest.mark.parametrize(
    ("old", "new", "fact"),
    [
        ("\nthe password is swordfish\n", "\nthe password is halibut\n", "edited"),
        ("\necho: the password is swordfish\n", "\nthe password is halibut\n", "reply_edited"),
    ],
)
def test_an_edit_of_the_past_is_what_the_agent_is_told_next(talk: Talk, old: str, new: str, fact: str) -> None:
    sheet = Sheet(talk, talk.create())
    sheet.type("the password is swordfish\n\n/send")
    sheet.sent(1)
    sheet.change(old, new)
    sheet.told(fact)
    sheet.holds("What was said before is another now", "/fork ")
    said = told_again(sheet, 2)
    assert "halibut" in said and "resume=0" in said
    assert "What was said before" not in sheet.text() and new in sheet.text()
    assert sheet.texts() == ["the password is swordfish", "/context"]
    assert "resume=0" in told_again(sheet, 3)  # the same process and session go on


def test_a_deleted_exchange_is_forgotten(talk: Talk) -> None:
    sheet = Sheet(talk, talk.create())
    for number, text in enumerate(("the password is swordfish", "tea"), 1):
        sheet.type(f"{text}\n\n/send")
        sheet.sent(number)
    first = sheet.turns()[0]
    kept = [region for region in sheet.regions() if region.id not in (first["id"], first["message"])]
    sheet.save(b"".join(region.raw for region in kept))
    sheet.told("deleted", 2)
    said = told_again(sheet, 3)
    assert "swordfish" not in said and "echo: tea" in said
    assert "swordfish" not in sheet.text()


def test_a_formatter_changes_nothing_that_was_said(talk: Talk) -> None:
    sheet = Sheet(talk, talk.create())
    sheet.type("*tea* and\n* milk\n\n/send")
    sheet.sent(1)
    sheet.save(sheet.text().replace("*tea*", "_tea_").replace("* milk", "- milk").replace("## ", "##  "))
    sheet.told("edited")
    sheet.type("/context\n\n/send")
    said = sheet.said(sheet.sent(2))
    assert "opagent://conversation" not in said
    assert "_tea_" in sheet.text()


def test_the_edit_of_an_old_turn_while_the_agent_runs_is_told_in_the_next_turn(talk: Talk) -> None:
    sheet = Sheet(talk, talk.create())
    sheet.type("the password is swordfish\n\n/send")
    sheet.sent(1)
    running(sheet)
    sheet.change("\nthe password is swordfish\n", "\nthe password is halibut\n")
    sheet.told("edited")
    cancel(sheet)
    said = told_again(sheet, 3)
    assert "the password is halibut" in said and SLOW in sheet.texts()


def test_the_log_is_gone_and_the_conversation_goes_on(talk: Talk, home: Path) -> None:
    sheet = Sheet(talk, talk.create())
    sheet.type("the password is swordfish\n\n/send")
    sheet.sent(1)
    talk.stop_daemon()
    pid = paths.daemon_pid()
    until(lambda: not paths.socket().exists())
    until(lambda: _free(pid))
    shutil.rmtree(home / ".local/state/opagent")
    with Client("second") as client:
        again = Talk(client, talk.directory)
        client.request("workspace/open", {"path": str(sheet.path), "environment": dict(os.environ)})
        other = Sheet(again, client.request("conversation/show", {"conversation": str(sheet.path)})["conversation"])
        other.queue()
        other.type("/context\n\n/send")
        other.holds("its last turn did not happen here")
        by_hand(other)
        assert "swordfish" in other.said(other.sent(1))
        other.type("and more\n\n/send")
        assert other.sent(2)["text"] == "and more"
        assert sum(region.part is Part.REPLY for region in other.regions()) == 3


def _free(pid: Path) -> bool:
    import fcntl

    with pid.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_the_author_of_what_is_sent_by_hand_is_the_person(talk: Talk) -> None:
    sheet = Sheet(talk, talk.create())
    sheet.type("tea")
    assert by_hand(sheet)["author"] == f"human:{os.getuid()}"
    configure(UNSANDBOXED)
