"""Ticks in the real file of a real conversation with the echo agent, from the bytes an editor left to what the agent does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from opagent.daemon import ticked
from opagent.daemon.approvals import Said
from opagent.daemon.conversation import Conversation
from opagent.daemon.turns import Prompt
from opagent.document.parse import Part, scan
from opagent.document.ticks import untick
from opagent.model import ApprovalState
from tests.doubles import inside
from tests.integration.test_filerights import UNSANDBOXED, configure


@dataclass(slots=True)
class Desk:
    """A conversation and a person at its file."""

    c: Conversation
    directory: Path

    @property
    def path(self) -> Path:
        return Path(self.c.record.path)

    async def ask(self, text: str, number: int = 1) -> list[str]:
        """Send, and wait until so many questions stand in the file."""
        await self.c.enqueue(Prompt(text, "human:0", "cli"))
        waiting = lambda: self.c.shared.approvals.waiting_for(self.c.record.id)  # noqa: E731
        idents = await inside.until(lambda: len(found := waiting()) == number and list(found))
        await inside.until(lambda: all(f"/{ident} open" in self.path.read_text() for ident in idents))
        return list(map(str, idents))

    async def save(self, *changes: tuple[str, str], git: bool = False, content: str = "") -> list[str]:
        """What the daemon makes of a save of the file with these changes: the sentences it tells. The disk stays as it is."""
        content = content or self.path.read_text()
        for old, new in changes:
            assert old in content
            content = content.replace(old, new, 1)
        ticks = []
        for region in scan(content.encode()):
            if region.part is Part.REPLY:
                ticks += untick(region.body, self.c.file.subject.tag, region.id)[1]
        return await ticked.answer(self.c, ticks, git)

    async def ended(self) -> str:
        """The file when the turn is over."""
        await inside.until(lambda: self.c.current is None and not self.c.queue)
        return self.path.read_text()

    def state(self, ident: str) -> ApprovalState:
        return self.c.shared.approvals.find(ident).state


@asynccontextmanager
async def desk(directory: Path) -> AsyncIterator[Desk]:
    async with inside.host() as host:
        yield Desk(await inside.talk(host, directory), directory)


@pytest.fixture
def at(home: Path) -> Callable[[Callable[[Desk], Coroutine[Any, Any, None]]], None]:
    """Runs a test at a desk; the user accepts ticks without a sandbox."""
    configure(UNSANDBOXED)
    directory = home / "notes"
    directory.mkdir()

    def run(body: Callable[[Desk], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            async with desk(directory) as made:
                await body(made)

        asyncio.run(whole())

    return run


At = Callable[[Callable[[Desk], Coroutine[Any, Any, None]]], None]
ONCE, ALWAYS, DENY = (f"- [ ] {label}" for label in ("Allow once", "Allow in this conversation", "Deny"))


def ticks(box: str) -> tuple[str, str]:
    return box, box.replace("[ ]", "[x]")


def test_a_tick_allows_once(at: At) -> None:
    async def body(desk: Desk) -> None:
        [ident] = await desk.ask("/permission write tea.txt two cups")
        assert "answer here, or with" in desk.path.read_text() and "> +two cups\n" in desk.path.read_text()
        assert await desk.save(ticks(ONCE)) == []
        text = await desk.ended()
        assert "allowed once** (" in text and ", in this file): `Write tea.txt ...`" in text
        assert f"/{ident} allow-once by=" in text and "permission: allow_once" in text
        assert (desk.directory / "tea.txt").read_text() == "two cups"
        approval = desk.c.shared.approvals.find(ident)
        assert approval.answered_by is not None and approval.answered_by.startswith("human:")
        assert await desk.ask("/permission write tea.txt two cups")

    at(body)


def test_a_tick_for_the_conversation_is_remembered(at: At) -> None:
    async def body(desk: Desk) -> None:
        [ident] = await desk.ask("/permission write tea.txt two cups")
        assert await desk.save(ticks(ALWAYS)) == []
        assert f"/{ident} allow-conversation" in await desk.ended()
        await desk.c.enqueue(Prompt("/permission write tea.txt two cups", "human:0", "cli"))
        assert (await desk.ended()).count("permission: allow_once") == 2

    at(body)


def test_a_no_has_a_reason(at: At) -> None:
    async def body(desk: Desk) -> None:
        [ident] = await desk.ask("/permission write tea.txt two cups")
        assert await desk.save(ticks(ONCE), (DENY, "- [x] Deny: tea is out,\n  drink water")) == []
        text = await desk.ended()
        assert f"/{ident} deny by=" in text and "denied** (" in text and "· tea is out, drink water\n" in text
        assert not (desk.directory / "tea.txt").exists()
        assert desk.c.shared.approvals.find(ident).reason == "tea is out,\ndrink water"

    at(body)


def test_several_questions_are_answered_each_on_its_own(at: At) -> None:
    async def body(desk: Desk) -> None:
        first, second, third = await desk.ask("/permissions 3", 3)
        parts = desk.path.read_text().split(ONCE)
        content = ONCE.join(parts[:2]) + ONCE.replace(" ]", "x]") + ONCE.join(parts[2:])
        assert await desk.save(content=content) == []
        assert [desk.state(ident) for ident in (first, second, third)] == [
            ApprovalState.PENDING, ApprovalState.ALLOWED, ApprovalState.PENDING,
        ]  # fmt: skip
        for ident in (first, third):
            assert await ticked.typed(desk.c, ident == first, f"{ident} once" if ident == first else f"{ident} no", False) == []
        assert "permissions: allow_once allow_once reject_once" in await desk.ended()

    at(body)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ((ticks(ONCE), ticks(ALWAYS)), "more than one box is ticked"),
        ((ticks(ONCE), (ALWAYS, "- [ ] Allow everything")), "what it shows was changed"),
        ((ticks(ONCE), ("> Make tea", "> Make coffee")), "what it shows was changed"),
        (((ONCE, "- [x] Allow always"),), "what it shows was changed"),
    ],
)
def test_what_is_no_answer_is_told_and_the_question_waits_on(at: At, changes: tuple[tuple[str, str], ...], why: str) -> None:
    async def body(desk: Desk) -> None:
        [ident] = await desk.ask("/permission")
        [told] = await desk.save(*changes)
        assert why in told and f"`opagent allow {ident}`" in told
        assert desk.state(ident) is ApprovalState.PENDING
        assert await desk.save(ticks(DENY)) == []

    at(body)


def test_a_tick_that_git_brought_or_that_was_pasted_elsewhere_is_none(at: At) -> None:
    async def body(desk: Desk) -> None:
        [ident] = await desk.ask("/permission")
        assert "git brought it" in (await desk.save(ticks(ONCE), git=True))[0]
        text = desk.path.read_text()
        block = text[text.index(f"<!-- op:{desk.c.file.subject.tag} {ident} ask") : text.index(f"/{ident} open -->") + 16]
        twice = (block, block.replace(*ticks(ONCE)) + "\n\n" + block.replace(*ticks(ALWAYS)))
        assert "more than once" in (await desk.save(twice))[0]
        tag = desk.c.file.subject.tag
        reply = f"<!-- op:{tag} aaaaa agent echo T re=u1 -->\n{block.replace(*ticks(ONCE))}\n<!-- op:{tag} /aaaaa done -->\n"
        assert "does not belong here" in (await desk.save((block, block), ("<!-- op:", reply + "\n<!-- op:")))[0]
        assert desk.state(ident) is ApprovalState.PENDING

    at(body)


def test_who_was_first_counts(at: At) -> None:
    async def body(desk: Desk) -> None:
        [ident] = await desk.ask("/permission")
        stale = desk.path.read_text()
        await desk.c.shared.approvals.answer(ident, Said(False, "human:0", "cli"))
        await desk.ended()
        [told] = await desk.save(ticks(ONCE), content=stale)
        assert told == f"The answer to {ident} was not taken: it was denied before."

    at(body)


def test_when_the_agent_is_gone_nothing_is_answered(at: At) -> None:
    async def body(desk: Desk) -> None:
        [ident] = await desk.ask("/permission")
        stale = desk.path.read_text()
        assert desk.c.agent is not None and desk.c.agent.process is not None
        await desk.c.agent.process.stop(stdin=0, term=0)
        assert f"/{ident} void" in await desk.ended()
        assert "it was void before" in (await desk.save(ticks(ONCE), content=stale))[0]

    at(body)


def test_without_the_users_word_the_boxes_do_not_count(at: At) -> None:
    configure("version: 1\nsandbox: {level: off}\n")

    async def body(desk: Desk) -> None:
        [ident] = await desk.ask("/permission")
        assert "a box ticked in this file does not count" in desk.path.read_text()
        assert "no sandbox keeps agents from writing this file" in (await desk.save(ticks(ONCE)))[0]
        assert "no sandbox" in (await ticked.typed(desk.c, True, "", False))[0]
        assert desk.state(ident) is ApprovalState.PENDING
        configure(UNSANDBOXED)
        assert await desk.save(ticks(ONCE)) == []

    at(body)


def test_commands_of_the_draft(at: At) -> None:
    async def body(desk: Desk) -> None:
        assert await ticked.typed(desk.c, True, "", False) == ["Nothing waits for an answer."]
        [old] = await desk.ask("/permission")
        assert "say once, conversation or binding" in (await ticked.typed(desk.c, True, "perhaps", False))[0]
        assert "git brought it" in (await ticked.typed(desk.c, True, "", True))[0]
        assert await ticked.typed(desk.c, True, " once ", False) == []
        await desk.ended()
        first, second = await desk.ask("/permissions 2", 2)
        assert await ticked.typed(desk.c, False, "no", False) == [f"Say which approval: {first}, {second}"]
        assert await ticked.typed(desk.c, True, f"{second} conversation", False) == []
        assert await ticked.typed(desk.c, True, old, False) == [f"The answer to {old} was not taken: it waits no longer."]
        assert await ticked.typed(desk.c, False, "it is late", False) == []
        assert desk.c.shared.approvals.find(first).reason == "it is late"
        assert "permissions: reject_once allow_once" in await desk.ended()

    at(body)


@pytest.mark.parametrize(
    ("question", "changes", "said"),
    [
        ("/question red blue", (ticks("- [ ] blue"),), "question: accept answer='blue'"),
        ("/question red blue", (ticks("- [ ] red"), ticks("- [ ] Decline")), "question: decline"),
        ("/question yes", (ticks("- [ ] No"),), "question: accept answer=False"),
        ("/question text", (("Answer:\n", "Answer: green,\nvery green\n"),), "question: accept answer='green,\\nvery green'"),
    ],
)
def test_questions_are_answered_in_the_file(at: At, question: str, changes: tuple[tuple[str, str], ...], said: str) -> None:
    async def body(desk: Desk) -> None:
        await desk.ask(question)
        assert "asks you**" in desk.path.read_text()
        assert await desk.save(*changes) == []
        assert said in await desk.ended()

    at(body)


def test_a_question_takes_its_own_answers_only(at: At) -> None:
    async def body(desk: Desk) -> None:
        [ident] = await desk.ask("/question red blue")
        [told] = await desk.save(("- [ ] red", "Answer: green\n\n- [ ] red"))
        assert "it asks for one of: red, blue" in told
        assert desk.state(ident) is ApprovalState.PENDING
        assert await ticked.typed(desk.c, True, "BLUE", False) == []
        text = await desk.ended()
        assert "question: accept answer='blue'" in text and "answered** (" in text and "`Which tea?` · blue\n" in text

    at(body)


# ---- from the disk -------------------------------------------------------------------------------------------------------------


def on_disk(desk: Desk, *changes: tuple[str, str]) -> None:
    """A person's save, and the look at it."""
    content = desk.path.read_text()
    for old, new in changes:
        assert old in content
        content = content.replace(old, new, 1)
    desk.path.write_text(content)
    desk.c.changed(watched=True)


def test_a_saved_tick_is_answered_and_the_block_becomes_a_line(at: At) -> None:
    async def body(desk: Desk) -> None:
        [ident] = await desk.ask("/permission write tea.txt two cups")
        on_disk(desk, ticks(ONCE))
        await inside.until(lambda: f"/{ident} allow-once by=" in desk.path.read_text())
        text = await desk.ended()
        assert "allowed once** (" in text and "- [x]" not in text and "permission: allow_once" in text

    at(body)


def test_a_saved_tick_that_is_no_answer_is_taken_out_and_said(at: At) -> None:
    async def body(desk: Desk) -> None:
        [ident] = await desk.ask("/permission write tea.txt two cups")
        on_disk(desk, ticks(ONCE), ticks(ALWAYS))
        await inside.until(lambda: "more than one box is ticked" in desk.path.read_text())
        await inside.until(lambda: "- [x]" not in desk.path.read_text())
        assert desk.state(ident) is ApprovalState.PENDING
        on_disk(desk, (DENY, "- [x] Deny: not today"))
        assert f"/{ident} deny by=" in await desk.ended()

    at(body)


def test_a_question_is_answered_by_a_save(at: At) -> None:
    async def body(desk: Desk) -> None:
        await desk.ask("/question text")
        before = desk.path.read_text()
        await desk.c.file.rebuild()
        assert re.sub(" pad=0+", "", desk.path.read_text()) == before
        on_disk(desk, ("Answer:\n", "Answer: green tea\n"))
        assert "question: accept answer='green tea'" in await desk.ended()

    at(body)
