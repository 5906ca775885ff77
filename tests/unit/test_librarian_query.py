"""From any question to well-formed searches, and what they find: ranking, spelling, other scripts."""

import sqlite3
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "runtimes" / "librarian"))

from librarian import query
from librarian.finding import _lines
from librarian.globs import parse_rules
from librarian.index import Index
from librarian.search import Search
from librarian.walk import Scope

PAGES = {
    "style.md": "# Style\n\n## Headings\n\nHeadings are written in sentence case.\n\n## Links\n\nA link names its page.\n",
    "setup.md": "# Setup\n\nRun the installer and configure the server. Written once, read often.\n",
    "zh.md": "# 安装指南\n\n首先下载软件包,然后运行安装程序。\n\n## 卸载\n\n删除目录即可。\n",
    "de.md": "# Überschriften\n\nWie Überschriften geschrieben werden: kurz und in Satzschreibung.\n",
    "long.md": "# Long\n\n" + "\n".join(f"line {n} about nothing" for n in range(40)) + "\nthe needle is here\n",
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    root = tmp_path_factory.mktemp("pages")
    for name, text in PAGES.items():
        (root / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPAGENT_STATE", str(tmp_path_factory.mktemp("state")))
        index = Index(Scope(str(root), parse_rules(None), "conversations"), lambda: None)
        index.update(lambda done, total: None)
    return index


def best(index: Index, question: str) -> tuple[str, int] | None:
    found = Search(index.db, lambda: None).ask(query.understand(question))
    return (found.hits[0].path, found.hits[0].line) if found.hits else None


@pytest.mark.parametrize(
    ("question", "place"),
    [
        ("How should headings be written?", ("style.md", 3)),
        ("heading", ("style.md", 3)),
        ("HEADINGS!!!", ("style.md", 3)),
        ('"sentence case"', ("style.md", 3)),
        ("Wie schreibt man Überschriften?", ("de.md", 1)),
        ("uberschriften", ("de.md", 1)),
        ("如何安装软件包?", ("zh.md", 1)),
        ("卸载", ("zh.md", 5)),
        ("删", ("zh.md", 5)),
        ("confgure", ("setup.md", 1)),
        ("instaler", ("setup.md", 1)),
        ("config", ("setup.md", 1)),
        ("zebra crossing", None),
    ],
)
def test_the_best_passage(index: Index, question: str, place: tuple[str, int] | None) -> None:
    assert best(index, question) == place


def test_what_was_read_as_something_else_is_told(index: Index) -> None:
    found = Search(index.db, lambda: None).ask(query.understand("hedaings zebra"))
    assert found.read_as == {"hedaings": "headings"}
    assert found.missing == ["zebra"]


def test_a_mentioned_file_comes_first(index: Index) -> None:
    search = Search(index.db, lambda: None)
    question = query.understand("written")
    assert {hit.path for hit in search.ask(question).hits} == {"style.md", "setup.md"}
    for name in ("style.md", "setup.md"):
        assert search.ask(question, favoured=name).hits[0].path == name


def test_lines_are_found_at_their_number(index: Index) -> None:
    assert _lines(index.db, query.all_of(query.understand("needle").terms), "needle") == [("long.md", 43, "the needle is here")]
    assert _lines(index.db, query.all_of(query.understand("目录").terms), "目录") == [("zh.md", 7, "删除目录即可。")]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=200) | st.text("\"'*()^:+-{}NEARANDOT \0安装ab,", max_size=80))
@example('" OR * NEAR(a b, 2) {trail} : ^x -- \0 ; DROP TABLE words')
@example('"a"b" ""')
@example("“安装 headings”")
@example("ﷺ ǆ İ ß ﬁ \ud800")
@example("AND OR NOT NEAR")
def test_no_question_raises(index: Index, text: str) -> None:
    question = query.understand(text)
    Search(index.db, lambda: None).ask(question)
    for expression in (query.all_of(question.terms), query.any_of(question.terms), query.near(question.words)):
        if expression:
            index.db.execute("SELECT count(*) FROM words WHERE words MATCH ?", (expression,)).fetchone()


def test_a_question_of_a_megabyte_is_answered(index: Index) -> None:
    words = " ".join(f"word{n}" for n in range(100_000))
    assert best(index, f"headings {words}") == ("style.md", 3)


def test_stop_words_alone_are_searched_for() -> None:
    assert [term.text for term in query.understand("What is this?").terms] == ["what", "is", "this"]
    assert [term.text for term in query.understand("What is this thing?").terms] == ["thing"]
    assert query.understand("?!").empty


def test_a_search_can_be_interrupted(index: Index) -> None:
    class Stop(Exception):
        pass

    def check() -> None:
        raise Stop

    with pytest.raises((Stop, sqlite3.OperationalError)):
        Search(index.db, check).ask(query.understand("headings"))
