"""What a reply shows of its events, and what streaming it costs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from opagent.document import render
from opagent.document.clean import clean
from opagent.document.markers import unescape
from opagent.document.render import Look
from tests.doubles.steps import grows_linearly
from tests.doubles.texts import AT, document, event, ids, nasty, opening, reply

ALL = Look(show=frozenset({"tools", "plan", "thoughts", "usage"}), blobs="../.opagent/blobs/")


def _diff(old: str, new: str, path: str = "y.md") -> list[dict[str, str]]:
    return [{"type": "diff", "path": path, "oldText": old, "newText": new}]


def _output(text: str) -> list[dict[str, Any]]:
    return [{"type": "content", "content": {"type": "text", "text": text}}]


def _call(**fields: Any) -> tuple[str, dict[str, Any]]:
    return ("tool_call", {"id": "1", "status": "completed", **fields})


def test_an_edit_is_one_line_and_a_folded_diff() -> None:
    made = reply(_call(kind="edit", title="Edit", seconds=0.21, content=_diff("a\nb\n```\n", "a\nc\n```\nd\n")))
    assert made.body() == (
        "<details>\n<summary>edit <code>y.md</code> +2 −1 · 0.2 s</summary>\n\n"
        "````diff\n@@ -1,3 +1,4 @@\n a\n-b\n+c\n ```\n+d\n````\n\n</details>\n"
    )


def test_later_events_of_a_call_change_it_in_place() -> None:
    made = reply(
        ("tool_call", {"id": "1", "kind": "execute", "title": "`make`", "status": "in_progress"}), ("text", {"text": "on"})
    )
    assert made.body() == "run `make` · running\n\non\n"
    made.apply(event("tool_call", {"id": "1", "status": "failed", "seconds": 3, "content": _output("no rule\n")}))
    assert made.body().startswith(
        "<details>\n<summary>run <code>make</code> · failed · 3.0 s</summary>\n\n```text\nno rule\n```\n"
    )


def test_an_excerpt_of_output_and_diff() -> None:
    lines = "".join(f"line {number}\n" for number in range(212))
    made = reply(_call(kind="execute", title="x", content=_output(lines)), look=ALL)
    (name, whole), *_ = made.blobs.items()
    assert (whole, made.body().count("\nline ")) == (lines.rstrip("\n"), 20)
    assert f"[the whole output, 212 lines](../.opagent/blobs/{name})" in made.body()
    long = reply(_call(kind="execute", title="x", content=_output("y" * 9000)))
    assert len(long.body()) < 2300 and "is in the log" in long.body()
    edit = reply(_call(kind="edit", title="x", content=_diff("", lines)))
    assert "+212 −0" in edit.body() and "… 153 lines more" in edit.body()


def test_lookups_in_a_row_become_one_line() -> None:
    reads: list[tuple[str, dict[str, Any]]] = [
        ("tool_call", {"id": str(n), "kind": "read", "status": "completed", "locations": [{"path": f"{n}.md", "line": 3}]})
        for n in range(7)
    ]
    assert reply(reads[0]).body() == "read `0.md:3`\n"
    assert reply(*reads[:3], ("text", {"text": " \n"}), *reads[3:], ("text", {"text": "."})).body() == "read 7 files\n\n.\n"
    mixed = reply(*reads[:2], ("tool_call", {"id": "s", "kind": "search", "status": "in_progress"}))
    assert mixed.body() == "read 2 files, searched 1 time · running\n"
    parted = reply(reads[0], ("text", {"text": "so"}), reads[1], _call(id="f", kind="read", status="failed", title="z"))
    assert parted.body() == "read `0.md:3`\n\nso\n\nread `1.md:3`\n\nread `z` · failed\n"


def test_a_note_of_ours_never_stands_inside_a_sentence_of_the_agent() -> None:
    note: tuple[str, dict[str, Any]] = ("note", {"text": "80 % of the budget is used"})
    said = reply(("text", {"text": "so "}), note, ("text", {"text": "it goes"}))
    assert said.body() == "so it goes\n\n> [!NOTE]\n> 80 % of the budget is used\n"
    said.apply(event("tool_call", {"id": "1", "kind": "read", "status": "completed", "title": "z"}))
    said.apply(event("text", {"text": "on"}))
    assert said.body().endswith("is used\n\nread `z`\n\non\n")


def test_a_plan_is_rewritten_where_it_first_stood() -> None:
    made = reply(("plan", {"entries": [{"content": "one", "status": "in_progress"}]}), ("text", {"text": "then"}))
    made.apply(
        event(
            "plan",
            {"entries": [{"content": "one", "status": "completed"}, {"content": "<details> two\n# x", "status": "pending"}]},
        )
    )
    assert made.body() == "- [x] one\n- [ ] \\<details> two # x\n\nthen\n"


def test_thoughts_and_usage_only_if_shown() -> None:
    events: list[tuple[str, dict[str, Any]]] = [
        ("thought", {"text": "hm</details>"}),
        ("usage", {"input": 5120, "output": 312, "cost": {"amount": 0.0121, "currency": "USD"}}),
        ("turn_state", {"state": "done"}),
    ]
    assert reply(*events).body() == ""
    assert reply(*events).end() == ("done", AT, "in=5120", "out=312", "cost=0.0121USD", "")
    shown = reply(*events, look=ALL).body()
    assert "<summary>thoughts</summary>\n\n```text\nhm</details>\n```\n" in shown
    assert "<sub>5120 in, 312 out, 0.0121USD cost</sub>" in shown
    assert reply(("usage", {"output": 0}), ("turn_state", {"state": "done"})).end() == ("done", AT, "out=0", "")


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"state": "done"}, ""),
        ({"state": "failed", "reason": "crashed"}, "> [!WARNING]\n> The agent crashed. Send again to go on.\n"),
        ({"state": "failed", "sentence": "It\nis <b>over</b>."}, "> [!WARNING]\n> It is \\<b>over\\</b>.\n"),
        (
            {"state": "failed", "error": "`no`"},
            "> [!WARNING]\n> Failed. Send again to try once more.\n> The agent said: `` `no` ``\n",
        ),
        ({"state": "interrupted"}, "> [!WARNING]\n> Interrupted. Send again to go on.\n"),
        ({"state": "cancelled"}, "> [!NOTE]\n> Cancelled. Send again to go on.\n"),
        ({"state": "done", "reason": "limit"}, "> [!NOTE]\n> The agent stopped at its limit. Send `go on` to continue.\n"),
        ({"state": "running"}, ""),
        ({"state": "unheard-of"}, ""),
    ],
)
def test_the_end_of_a_turn(body: dict[str, str], shown: str) -> None:
    made = reply(("turn_state", body))
    assert made.body() == shown
    assert made.end()[0] in ("queued" if body["state"] == "unheard-of" else body["state"])


def test_what_still_ran_is_stopped_by_the_end() -> None:
    made = reply(_call(kind="execute", title="sleep", status="in_progress"), ("turn_state", {"state": "cancelled"}))
    assert made.body().startswith("run `sleep` · stopped\n")


def test_a_call_of_another_agent_links_its_file() -> None:
    call = {"agent": "researcher", "file": "a b/researcher-1.md", "text": "First.\n\nThe light was lit in <1899>."}
    shown = reply(_call(call=call, seconds=41)).body()
    assert "<summary>call <code>researcher</code> · 41.0 s</summary>" in shown
    assert "[the conversation](a%20b/researcher-1.md)\n\n> The light was lit in <1899>.\n" in shown
    waiting = reply(_call(status="in_progress", call={"agent": "r", "approval": "p1"})).body()
    assert waiting == "call `r` · running · waits for a person: `opagent allow p1`\n"


def test_folds() -> None:
    events = _call(kind="execute", title="ls", content=_output("a\n\nb"))
    assert reply(events, look=Look(fold="none")).body() == "run `ls`\n"
    callout = reply(events, look=Look(fold="callout")).body()
    assert callout == "> [!example]- run `ls`\n>\n> ```text\n> a\n>\n> b\n> ```\n"
    assert reply(events, look=Look(show=frozenset())).body() == ""


def test_names_of_an_agent_are_made_inert() -> None:
    title = "<b onclick> --> `x`\n</summary><!-- op:k7q2 next -->"
    shown = reply(_call(kind="other", title=title, content=_output("</details>\n```\n"))).body()
    summary = shown.split("\n")[1]
    assert summary.startswith("<summary>tool <code>&lt;b onclick&gt; --&gt; `x` &lt;/summary&gt;")
    line = reply(_call(kind="other", title=title)).body()
    assert line == "tool ``<b onclick> --> `x` </summary><!-- op:k7q2 next -->``\n"


def _of(kind: str, make: Any) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return nasty.map(lambda text: (kind, make(text)))


def _tool(number: int, kind: str, status: str, texts: list[str]) -> tuple[str, dict[str, Any]]:
    title, old, new = texts
    content = [*_output(new), *_diff(old, new, title)]
    return ("tool_call", {"id": str(number), "kind": kind, "status": status, "title": title, "content": content})


bodies = st.one_of(
    _of("text", lambda text: {"text": text}),
    _of("thought", lambda text: {"text": text}),
    _of("note", lambda text: {"text": text}),
    _of("plan", lambda text: {"entries": [{"content": text, "status": "pending"}]}),
    _of("approval_asked", lambda text: {"id": "p1abc", "kind": "execute", "subject": text, "offers": ["once", "deny"]}),
    _of("approval_asked", lambda text: {"id": "p1abc", "kind": "question", "subject": text, "offers": ["answer", "decline"]}),
    _of(
        "approval_asked",
        lambda text: {"id": "p1abc", "kind": "question", "where": text, "options": [{"name": text}], "offers": ["answer"]},
    ),
    _of(
        "approval_answered",
        lambda text: {"id": "p1abc", "state": "allowed", "reason": text, "answered_by": text, "answer": text, "via": text},
    ),
    _of("usage", lambda text: {"input": 1, "cost": {"amount": 1.5, "currency": text}}),
    _of("turn_state", lambda text: {"state": "failed", "sentence": text, "error": text, "reason": text}),
    st.builds(
        _tool,
        st.integers(0, 4),
        st.sampled_from(["read", "edit", "execute", "other", "search"]),
        st.sampled_from(["pending", "completed", "failed"]),
        st.lists(nasty, min_size=3, max_size=3),
    ),
)


@given(st.lists(bodies, max_size=12), st.sampled_from(["details", "callout", "none"]))
def test_no_event_becomes_structure(events: list[tuple[str, dict[str, Any]]], fold: str) -> None:
    """The regions of the file are those that were written, at every moment, and the next heading is top level."""
    made = reply(look=Look(fold=fold, show=ALL.show))
    base = document().begin(opening())
    for kind, body in events:
        made.apply(event(kind, body))
        content = base.put("a0000", made.body(), made.end()).content()
        assert ids(content) == ["", "u0000", "a0000", "next"]
        tokens = MarkdownIt("commonmark").parse(content.split(b"-->\n## ", 2)[2].decode() + "\n## SENTINEL\n")
        assert [token.level for token in tokens if token.type == "inline" and token.content == "SENTINEL"][-1:] == [1]


@given(st.lists(nasty, min_size=1, max_size=5))
def test_text_stands_as_cleaned(texts: list[str]) -> None:
    made = reply(*(("text", {"text": text}) for text in texts), ("turn_state", {"state": "done"}))
    assert unescape(made.body()).startswith(clean("".join(texts)))


@given(nasty, st.lists(st.integers(0, 300), max_size=6), st.booleans())
def test_any_cutting_renders_the_same(text: str, places: list[int], thoughts: bool) -> None:
    kind = "thought" if thoughts else "text"
    cuts = sorted({min(place, len(text)) for place in places})
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    end = ("turn_state", {"state": "done"})
    tool = _call(kind="edit", title="x", content=_diff("a", "b"))
    pieces = reply(*((kind, {"text": chunk}) for chunk in chunks), tool, ("text", {"text": "z"}), end, look=ALL)
    whole = reply((kind, {"text": text}), tool, ("text", {"text": "z"}), end, look=ALL)
    assert pieces.body() == whole.body()


@pytest.mark.parametrize("chunk", ["word ", "a line\n", "a paragraph\n\n", "- item\n"])
def test_streaming_is_not_quadratic(chunk: str) -> None:
    """Looked at forty times, however many chunks there are."""
    assert grows_linearly(lambda count: _stream(chunk, count), 1_000)


def _stream(chunk: str, count: int) -> None:
    made = reply()
    base = document().begin(opening())
    for number in range(count):
        made.apply(event("text", {"text": chunk}))
        if number % (count // 40) == 0:
            base = base.put("a0000", made.body(), made.end())
    assert made.body().startswith(chunk * count)


def test_a_reply_that_no_file_can_hold_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "WHOLE", 1000)
    made = reply(("text", {"text": "x" * 900}), ("text", {"text": "y" * 900}), ("text", {"text": "z" * 900}))
    assert "y" * 100 in made.body() and "y" * 101 not in made.body() and "z" not in made.body()
    assert "1,700 more characters" in made.body()
