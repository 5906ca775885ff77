"""What stands in front of the journal: each run of text whole and in its place, everything else as it was but for secrets."""

from __future__ import annotations

import itertools
import json
import logging
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from opagent.daemon.redaction import MOST, Formatter, Known, Redaction
from opagent.document.clean import clean
from opagent.model import Kind, TurnId
from opagent.store.events import Draft
from tests.doubles.texts import FRAGMENTS

SECRET, MARK = "p1ant/d-V4lue+7Qz=x9", "«redacted:API_TOKEN»"
BESIDE = (Kind.USAGE, Kind.AGENT_STATE)
TURN = TurnId("a8c2d")


def redaction() -> Redaction:
    known = Known()
    known.learn({"API_TOKEN": SECRET, "HOME": "/home/alice"})
    return Redaction(known)


def draft(kind: Kind, text: str) -> Draft:
    return Draft(kind, TURN, {"text": text})


pieces = st.sampled_from([SECRET[:7], SECRET[7:], SECRET, "p", "p1", " ", "\x1b[1m", *FRAGMENTS])
kinds = st.sampled_from([Kind.TEXT, Kind.TEXT, Kind.TEXT, Kind.THOUGHT, Kind.TOOL_CALL, Kind.NOTE, *BESIDE])


STREAMS = (Kind.TEXT, Kind.THOUGHT)


def runs(drafts: list[Draft]) -> list[tuple[Kind, str]]:
    """The kinds in order, without those that show nothing where they stand; text of one kind joined."""
    shown = [each for each in drafts if each.kind not in BESIDE and (each.kind not in STREAMS or each.body["text"])]
    return [
        (kind, "".join(each.body["text"] for each in group)) for kind, group in itertools.groupby(shown, lambda each: each.kind)
    ]


@given(st.lists(st.builds(draft, kinds, pieces), max_size=30), st.integers(1, 5))
def test_runs_of_text_stay_whole_and_in_order(drafts: list[Draft], size: int) -> None:
    ours, drafts = redaction(), [*drafts, draft(Kind.TURN_STATE, "end")]
    out = [each for start in range(0, len(drafts), size) for each in ours.drafts(drafts[start : start + size])]
    hidden = [draft(kind, ours.hide(clean(text)) if kind in STREAMS else text) for kind, text in runs(drafts)]
    assert [kind for kind, _ in runs(out)] == [kind for kind, _ in runs(hidden)]
    assert [text for kind, text in runs(out) if kind in STREAMS] == [text for kind, text in runs(hidden) if kind in STREAMS]
    assert [each.kind for each in out if each.kind not in STREAMS] == [each.kind for each in drafts if each.kind not in STREAMS]
    assert SECRET not in json.dumps([dict(each.body) for each in out])


def test_everything_in_a_body_is_looked_at_and_nothing_else_changes() -> None:
    body: dict[str, Any] = {
        "id": "t1", "n": 1, "f": 0.5, "b": True, "none": None, "list": [SECRET, ["\r\n\x1b[31m", 3]], SECRET: {"deep": f"a {SECRET}"},
        "coloured": f"{SECRET[:5]}\x1b[0m{SECRET[5:]}\r\n",
    }  # fmt: skip
    [out] = redaction().drafts([Draft(Kind.TOOL_CALL, TURN, body, {"agent": "a"}, {"ref": "r"})])
    assert out.body == {
        "id": "t1", "n": 1, "f": 0.5, "b": True, "none": None, "list": [MARK, ["\r\n\x1b[31m", 3]], MARK: {"deep": f"a {MARK}"},
        "coloured": f"{MARK}\n",
    }  # fmt: skip
    assert (out.kind, out.turn, out.who, out.facts) == (Kind.TOOL_CALL, TURN, {"agent": "a"}, {"ref": "r"})


def test_what_a_person_typed_is_not_touched() -> None:
    typed = [
        Draft(Kind.TURN_STATE, TURN, {"state": "queued", "text": f"my {SECRET}\r\n", "raw": SECRET}),
        Draft(Kind.DOCUMENT, TURN, {"what": "edited", "body": SECRET}),
        Draft(Kind.APPROVAL_ANSWERED, TURN, {"reason": SECRET}),
    ]
    assert redaction().drafts(typed) == typed
    [ended] = redaction().drafts([Draft(Kind.TURN_STATE, TURN, {"state": "failed", "sentence": f"it said {SECRET}"})])
    assert ended.body["sentence"] == f"it said {MARK}"


def test_a_run_keeps_what_was_known_when_it_began_and_the_next_one_knows_more() -> None:
    known = Known()
    ours = Redaction(known)
    assert ours.drafts([draft(Kind.TEXT, "a p1ant")])
    before = known.learn({"API_TOKEN": SECRET})
    assert known.learn({"API_TOKEN": SECRET}) is before is known.secrets  # nothing is made again
    assert known.learn({"API_TOKEN": "another-one-8", "OTHER_KEY": SECRET}).values == {
        SECRET: "API_TOKEN",
        "another-one-8": "API_TOKEN",
    }
    [note, text] = ours.drafts([draft(Kind.NOTE, SECRET), draft(Kind.TEXT, f"{SECRET} another-one-8 ")])
    assert note.body["text"] == MARK and text.body["text"] == f"{MARK} {MARK} "


def test_the_newest_values_are_kept() -> None:
    known = Known()
    for number in range(MOST + 50):
        known.learn({"SESSION_TOKEN": f"value-of-{number:04}", "API_TOKEN": SECRET})
    assert len(known.secrets.values) == MOST and SECRET in known.secrets.values
    assert known.hide(f"value-of-0000 value-of-{MOST:04} {SECRET}") == f"value-of-0000 «redacted:SESSION_TOKEN» {MARK}"


def test_the_daemons_log_quotes_no_secret() -> None:
    known = Known()
    known.learn({"API_TOKEN": SECRET})
    try:
        raise ValueError(f"the agent says {SECRET}")
    except ValueError as error:
        record = logging.LogRecord(
            "x", logging.ERROR, __file__, 1, "%s of %s", (SECRET, "x"), (type(error), error, error.__traceback__)
        )
    line = Formatter("%(levelname)s %(message)s", known).format(record)
    assert line.startswith(f"ERROR {MARK} of x\nTraceback") and line.endswith(f"the agent says {MARK}")
