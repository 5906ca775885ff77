"""Talking by editing the file: what sends, what acts at once, and what waits while a turn runs. Real daemon, real files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from opagent.document.parse import Part
from tests.doubles import runtimes
from tests.doubles.patience import until
from tests.doubles.sheet import BOX, Sheet
from tests.integration.conftest import Talk
from tests.integration.test_filerights import UNSANDBOXED, configure

_OFF = "version: 1\nsandbox: {level: off}\n"
SLOW = "/slow 100000 0.02"  # until it is cancelled


@pytest.fixture
def sheet(talk: Talk) -> Sheet:
    return Sheet(talk, talk.create())


def cancel(sheet: Sheet) -> None:
    sheet.talk.client.request("turn/cancel", {"conversation": sheet.conversation["id"]})


def running(sheet: Sheet, text: str = SLOW) -> dict[str, Any]:
    """A turn from the command line that runs and has said something."""
    turn = sheet.talk.start(sheet.conversation, text)
    until(lambda: sheet.said(turn))
    sheet.holds(f" {turn['id']} agent ")
    return turn


def watched(talk: Talk) -> Path:
    """The directory of conversations, once a new file in it is noticed."""
    folder = Path(talk.create()["path"]).parent

    def noticed() -> bool:
        (folder / "first.md").write_text("first\n\n/send\n")
        found = talk.client.request("conversation/list", {"all": True})["conversations"]
        return any(one["path"].endswith("/first.md") for one in found)

    until(noticed)
    return folder


# ---- what sends ----------------------------------------------------------------------------------------------------------


def test_a_last_line_sends_what_stands_above_it(sheet: Sheet) -> None:
    sheet.type("  one cup of *tea*\n\nwith milk\n\n/send")
    turn = sheet.sent(1)
    assert turn["text"] == "  one cup of *tea*\n\nwith milk"
    assert sheet.said(turn).startswith("echo:   one cup of *tea*")
    assert "/send" not in sheet.text() and BOX in sheet.draft() and "tea" not in sheet.draft()
    sheet.sent_only(turn["text"])


def test_a_ticked_box_sends_what_stands_around_it(sheet: Sheet) -> None:
    sheet.save(sheet.text().replace(BOX, "above\n\n- [X] **Send**\nbelow\n"))
    assert sheet.sent(1)["text"].split() == ["above", "below"]
    assert "[X]" not in sheet.text()


@pytest.mark.parametrize("words", ["tea", "/sender", "/send now", "/send\nthis", "> /send", "/sen", "- [x] Send it", "    /send"])
def test_what_is_no_gesture_sends_nothing(sheet: Sheet, words: str) -> None:
    sheet.type(words)
    sheet.sent_only()
    assert words in sheet.draft()


def test_each_key_of_an_autosave_is_a_save_and_only_the_last_one_sends(sheet: Sheet) -> None:
    start = sheet.text()
    for end in range(1, len("tea\n/send") + 1):
        sheet.save(start.replace(BOX, "tea\n/send"[:end] + f"\n\n{BOX}"))
    sheet.sent(1)
    sheet.sent_only("tea")


def test_a_gesture_without_words_is_taken_away_and_sends_nothing(sheet: Sheet) -> None:
    sheet.change("[ ] **Send**", "[x] **Send**")
    sheet.lacks("[x]")
    sheet.sent_only()


def test_a_fence_that_was_left_open_is_sent_as_typed_and_closed_in_the_file(sheet: Sheet) -> None:
    sheet.type("```\nleft open\n\n/send")
    turn = sheet.sent(1)
    assert turn["text"] == "```\nleft open"
    assert sheet.region(turn["message"]).body.decode().rstrip().endswith("left open\n```")


def test_a_message_keeps_its_bytes_and_the_agent_gets_them_decoded(talk: Talk) -> None:
    sheet = Sheet(talk, talk.create())
    content = b"\xef\xbb\xbf" + sheet.bytes().replace(b"\n", b"\r\n")
    box = BOX.encode()
    sheet.save(content.replace(box, b"caf\xe9 \xf0\x9f\x8d\xb5 tea\r\n\r\nline\r\n\r\n/send\r\n\r\n" + box))
    turn = sheet.sent(1)
    assert turn["text"] == "caf\ufffd \U0001f375 tea\n\nline"
    after = sheet.bytes()
    assert b"caf\xe9 \xf0\x9f\x8d\xb5 tea\r\n\r\nline\r\n" in after
    assert after.startswith(b"\xef\xbb\xbf---\r\n") and after.count(b"\n") == after.count(b"\r\n")


def test_send_save_sends_every_draft_that_changed_and_no_other(sheet: Sheet) -> None:
    sheet.save(sheet.text().replace("\nagent:", "\nsend: save\nagent:", 1))
    sheet.type("one cup")
    sheet.sent(1)
    sheet.change("title:" if "title:" in sheet.text() else "created:", "tags: [tea]\ncreated:")
    sheet.type("two cups")
    sheet.sent(2)
    sheet.sent_only("one cup", "two cups")


def test_a_plain_file_becomes_a_conversation_when_it_is_sent(talk: Talk) -> None:
    runtimes.bind(talk.client, talk.directory, "echo")
    path = watched(talk) / "plans.md"
    path.write_text("# Plans\n\nA garden with tea.\n")
    path.write_text("# Plans\n\nA garden with tea.\n\n/send\n")
    listed = lambda: talk.client.request("conversation/list", {"all": True})["conversations"]  # noqa: E731
    made = until(lambda: [one for one in listed() if one["path"] == str(path) and one["turns"] == 1])[0]
    sheet = Sheet(talk, made)
    turn = sheet.sent(1)
    assert turn["text"] == "# Plans\n\nA garden with tea." and made["title"] == "Plans"
    assert sheet.text().startswith("---\nopagent: 1\nconversation: ") and sheet.text().count("A garden") == 2
    assert len([one for one in listed() if one["path"] == str(path)]) == 1
    sheet.type("and coffee\n\n/send")
    sheet.sent(2)
    sheet.sent_only(turn["text"], "and coffee")


def test_a_new_file_that_is_saved_many_times_becomes_one_conversation(talk: Talk) -> None:
    runtimes.bind(talk.client, talk.directory, "echo")
    path = watched(talk) / "new.md"
    for number in range(20):
        path.write_text(f"cup {number}\n\n/send\n")
        beside = path.with_suffix(".tmp")
        beside.write_text(f"cup {number}\n\n/send\n")
        beside.rename(path)
    listed = lambda: talk.client.request("conversation/list", {"all": True})["conversations"]  # noqa: E731
    until(lambda: any(one["path"] == str(path) and one["turns"] for one in listed()))
    made = [one for one in listed() if one["path"] == str(path)]
    assert len(made) == 1
    sheet = Sheet(talk, made[0])
    sheet.sent(1)
    assert len({*sheet.texts()}) == len(sheet.texts())


# ---- what acts at once ---------------------------------------------------------------------------------------------------


def test_steer_cancels_what_runs_and_begins_with_the_draft(sheet: Sheet) -> None:
    turn = running(sheet)
    waiting = sheet.talk.start(sheet.conversation, "later")
    sheet.type("a shorter one\n\n/steer")
    assert sheet.talk.ended(sheet.conversation, turn["id"])["reason"] == "steered"
    sheet.talk.ended(sheet.conversation, waiting["id"])
    text = sheet.holds(f"/{turn['id']} cancelled", f"/{waiting['id']} done")
    assert text.index("echo: a shorter one") < text.index("echo: later")
    assert "reason=steered" in text and "/steer" not in text


def test_steer_sends_where_nothing_runs(sheet: Sheet) -> None:
    sheet.type("go\n\n/steer")
    assert sheet.sent(1)["text"] == "go"


@pytest.mark.parametrize("at_once", [True, False])
def test_what_was_marked_goes_when_a_command_has_ended_what_runs(sheet: Sheet, at_once: bool) -> None:
    """A command leaves the draft alone, and its mark: in the save that brings the mark, and where the draft waits already."""
    turn = running(sheet)
    if not at_once:
        sheet.save(sheet.text().replace(BOX, "tea\n\n- [x] **Send**"))
        sheet.holds("Sent when what runs has ended")
    sheet.save(sheet.text().replace(BOX, "tea\n\n- [x] **Send**").rstrip("\n") + "\n/cancel\n")
    assert sheet.talk.ended(sheet.conversation, turn["id"])["state"] == "cancelled"
    assert sheet.sent(2)["text"] == "tea"
    sheet.lacks("/cancel")


def test_cancel_ends_what_runs_and_keeps_the_draft(sheet: Sheet) -> None:
    turn = running(sheet)
    sheet.type("half a thought\n\n/cancel")
    assert sheet.talk.ended(sheet.conversation, turn["id"])["state"] == "cancelled"
    sheet.holds(f"/{turn['id']} cancelled")
    sheet.lacks("/cancel")
    assert "half a thought" in sheet.draft()
    sheet.type("/cancel")
    sheet.holds("nothing runs")
    assert "half a thought" in sheet.draft()


def test_retry_sends_the_last_message_again_as_it_stands_in_the_file(sheet: Sheet) -> None:
    first = sheet.talk.say(sheet.conversation, "one cup of tea")
    sheet.holds(f"/{first['id']} done")
    sheet.change("\none cup of tea\n", "\ntwo cups of tea\n")
    sheet.told("edited")
    sheet.type("a draft\n\n/retry")
    assert sheet.sent(2)["text"] == "two cups of tea"
    assert "a draft" in sheet.draft() and "/retry" not in sheet.text()
    sheet.sent_only("one cup of tea", "two cups of tea")


def test_fork_makes_another_conversation_and_leaves_the_draft_alone(sheet: Sheet) -> None:
    first, second = (sheet.talk.say(sheet.conversation, text) for text in ("one", "two"))
    sheet.holds(f"/{second['id']} done")
    sheet.type(f"a draft\n\n/fork {first['id']}")
    text = sheet.holds("Goes on in ")
    name = re.search(r"Goes on in (\S+\.md)", text)
    assert name is not None
    made = sheet.path.with_name(name[1]).read_text()
    assert "echo: one" in made and "echo: two" not in made and "forked_from:" in made
    assert "a draft" in sheet.draft() and "/fork" not in sheet.text()
    sheet.type("/fork azzzz")
    sheet.holds("`/fork`: ")
    sheet.sent_only("one", "two")


def test_compact_moves_all_but_the_last_turns_to_a_part(sheet: Sheet) -> None:
    sheet.type("/compact")
    sheet.holds("there is nothing old enough")
    for number in range(23):
        turn = sheet.talk.say(sheet.conversation, f"cup {number}")
    sheet.holds(f"/{turn['id']} done")
    sheet.type("a draft\n\n/compact")
    text = sheet.lacks("echo: cup 2\n")
    assert "echo: cup 3\n" in text and "echo: cup 22\n" in text
    assert "a draft" in sheet.lacks("/compact")  # with the note of the first one, at the next write
    [part] = sheet.path.parent.glob("*/part-1.md")
    assert "echo: cup 2\n" in part.read_text()


def test_allow_and_deny_in_the_draft(sheet: Sheet) -> None:
    configure(UNSANDBOXED)
    for name, line in (("tea.txt", "/allow"), ("milk.txt", "/deny not today")):
        turn = sheet.talk.start(sheet.conversation, f"/permission write {name} two cups")
        approval = until(sheet.talk.approvals)[0]["id"]
        sheet.holds(f"/{approval} open")
        sheet.type(line)
        sheet.talk.ended(sheet.conversation, turn["id"])
        sheet.holds(f"/{turn['id']} done")
    assert (sheet.talk.directory / "tea.txt").read_text() == "two cups"
    assert not (sheet.talk.directory / "milk.txt").exists()
    assert "not today" in sheet.text() and "/allow" not in sheet.draft()
    sheet.type("/allow")
    sheet.holds("Nothing waits for an answer")


# ---- several prompts -----------------------------------------------------------------------------------------------------


def test_a_draft_waits_for_what_runs_and_is_announced_everywhere(sheet: Sheet) -> None:
    turn = running(sheet)
    sheet.type("a second cup\n\n/send")
    sheet.holds("Sent when what runs has ended; 1 before it")
    assert sheet.queue()["draft"]["place"] == 1
    [row] = sheet.talk.client.request("process/list", {})["processes"]
    assert row["draft"] == "waiting"
    assert sheet.texts() == [SLOW]
    cancel(sheet)
    second = sheet.sent(2)
    assert second["text"] == "a second cup"
    text = sheet.text()
    assert text.index(f"/{turn['id']} cancelled") < text.index("echo: a second cup") and "Sent when" not in text
    assert "draft" not in sheet.queue()
    sheet.sent_only(SLOW, "a second cup")


def test_a_draft_that_waits_can_be_changed_and_taken_back(sheet: Sheet) -> None:
    running(sheet)
    sheet.type("a second cup\n\n/send")
    sheet.holds("Sent when what runs has ended")
    sheet.change("a second cup", "a third cup")
    since = sheet.queue()["draft"]["since"]
    sheet.change("\n/send\n", "\n")
    sheet.lacks("Sent when what runs has ended")
    assert "draft" not in sheet.queue()
    sheet.change("a third cup", "a fourth cup\n\n/send")
    sheet.holds("Sent when what runs has ended")
    assert sheet.queue()["draft"]["since"] > since
    sheet.change("a fourth cup", "a fifth cup")
    cancel(sheet)
    assert sheet.sent(2)["text"] == "a fifth cup"
    sheet.sent_only(SLOW, "a fifth cup")


def test_a_draft_has_its_place_by_the_time_of_the_save(sheet: Sheet) -> None:
    running(sheet)
    sheet.talk.start(sheet.conversation, "before it")
    sheet.type("the draft\n\n/send")
    sheet.holds("; 2 before it")
    sheet.talk.start(sheet.conversation, "after it")
    assert sheet.queue()["draft"]["place"] == 2
    cancel(sheet)
    for number in (2, 3, 4):
        sheet.sent(number)
    states = [e for e in sheet.talk.show(sheet.conversation)["events"] if e["body"].get("state") == "running"]
    texts = {turn["id"]: turn["text"] for turn in sheet.turns()}
    assert [texts[event["turn"]] for event in states] == [SLOW, "before it", "the draft", "after it"]
    text = sheet.text()
    assert text.index("echo: before it") < text.index("echo: the draft") < text.index("echo: after it")


def test_turns_of_the_command_line_leave_the_draft_below(sheet: Sheet) -> None:
    sheet.type("half a thought")
    for number, text in enumerate(("one", "two"), 1):
        sheet.talk.say(sheet.conversation, text)
        sheet.sent(number)
    text = sheet.text()
    assert text.index("echo: one") < text.index("echo: two") < text.index("half a thought")
    sheet.sent_only("one", "two")


def test_the_command_sends_a_draft_without_a_gesture(sheet: Sheet) -> None:
    sheet.type("by hand")
    answer = sheet.talk.client.request("turn/start", {"conversation": sheet.conversation["id"], "environment": dict(os.environ)})
    assert answer["turn"]["text"] == "by hand"
    sheet.sent(1)
    assert "by hand" not in sheet.draft()
    sheet.sent_only("by hand")


def test_the_command_asked_twice_with_one_key_is_one_turn(sheet: Sheet) -> None:
    sheet.type("by hand")
    params = {"conversation": sheet.conversation["id"], "request": "k"}
    first, second = (sheet.talk.client.request("turn/start", params)["turn"] for _ in range(2))
    assert first["id"] == second["id"]
    sheet.sent_only("by hand")


# ---- whose turn it is ----------------------------------------------------------------------------------------------------


def test_a_role_as_the_first_word_takes_one_turn(talk: Talk) -> None:
    runtimes.bind(talk.client, talk.directory, "echo", roles={"reviewer": {"runtime": "echo", "instructions": "Be strict."}})
    sheet = Sheet(talk, talk.create())
    sheet.type("the password is swordfish\n\n/send")
    sheet.sent(1)
    sheet.type("@reviewer what is it?\n\n/send")
    guest = sheet.sent(2)
    assert guest["agent"] == "reviewer" and "## Reviewer · " in sheet.text()
    sheet.type("/context\n\n/send")
    own = sheet.sent(3)
    assert "agent" not in own
    said = sheet.said(own)
    assert "resume=1" in said and "opagent://meanwhile" in said and "what is it?" in said and "opagent://conversation" not in said


def test_send_with_an_agent_is_the_same(talk: Talk) -> None:
    runtimes.bind(talk.client, talk.directory, "echo", roles={"reviewer": {"runtime": "echo"}})
    sheet = Sheet(talk, talk.create())
    params = {"conversation": sheet.conversation["id"], "environment": dict(os.environ)}
    turn = talk.client.request("turn/start", {**params, "text": "look", "agent": "reviewer"})["turn"]
    talk.ended(sheet.conversation, turn["id"])
    assert "## Reviewer · " in sheet.holds(f"/{turn['id']} done")
    sheet.type("and this")
    drafted = talk.client.request("turn/start", {**params, "agent": "reviewer"})["turn"]
    assert drafted["agent"] == "reviewer" and drafted["text"] == "and this"
    talk.ended(sheet.conversation, drafted["id"])


def test_a_word_that_is_no_role_is_text(sheet: Sheet) -> None:
    sheet.type("@nobody there?\n\n/send")
    assert "agent" not in sheet.sent(1)


def test_the_author_is_the_person_where_no_agent_can_write_the_file(sheet: Sheet) -> None:
    person = f"human:{os.getuid()}"
    for number, (config, author) in enumerate(
        [("version: 1\n", person), (_OFF, "file"), (f"{_OFF}approvals: {{in_file: unsandboxed}}\n", person)], 1
    ):
        configure(config)
        sheet.type(f"message {number}\n\n/send")
        assert sheet.sent(number)["author"] == author


def test_a_message_begins_in_the_file_with_who_and_how(sheet: Sheet) -> None:
    sheet.type("typed here\n\n/send")
    typed = sheet.sent(1)
    said = sheet.talk.say(sheet.conversation, "from elsewhere")
    sheet.sent(2)
    openings = {region.id: region.open for region in sheet.regions() if region.part is Part.MESSAGE}
    assert b"via=" not in openings[typed["message"]] and b"via=test" in openings[said["message"]]
