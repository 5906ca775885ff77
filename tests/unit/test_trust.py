"""Trust: what needs it, what the digest covers, and what acts without it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opagent.binding import question, source, trust
from opagent.binding.load import Loaded, Verdict, effective, judge, load, unbound
from opagent.binding.trust import Facts, RuntimeFacts
from opagent.model import Binding, ChainFile, Trust, TrustRecord
from opagent.policy.decide import decide
from tests.doubles.catalogue import Catalogue, tree
from tests.unit.test_binding_form import EXAMPLE, parse


def opened(target: Path, home: Path, runtimes: Catalogue | None = None) -> Loaded:
    return load(str(target), home=str(home), runtimes=runtimes or Catalogue())


class Records:
    """The trust table of a host."""

    def __init__(self) -> None:
        self.rows: dict[str, TrustRecord] = {}

    def say(self, loaded: Loaded, answer: Trust) -> None:
        shown = question.shown(loaded)
        self.rows[loaded.workspace] = TrustRecord(loaded.workspace, loaded.digest, answer, "now", "human:0", shown)

    def judge(self, loaded: Loaded) -> Verdict:
        return judge(loaded, self.rows.get)


def word(binding: Binding, kind: str, request: object) -> str:
    return decide(binding.capabilities, kind, request).effect.word  # type: ignore[arg-type]


def needs(text: str) -> tuple[str, ...]:
    return trust.needs_trust(parse(text), lambda runtime: "not installed" if runtime == "absent" else "")


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("agent: librarian", ()),
        ("agent: absent", ("agent",)),
        ("conversations: x", ()),
        ("approvals: {timeout: 5m}", ()),
        ("supervise: {restart: never}", ()),
        ("roles: {w: {runtime: librarian}}", ()),
        ("roles: {w: {runtime: absent}}", ("roles.w.runtime",)),
        ("agent: absent\nroles: {absent: {runtime: librarian}}", ()),
        (
            "roles: {w: {runtime: librarian, model: m, mode: ask, instructions: x}}",
            ("roles.w.model", "roles.w.mode", "roles.w.instructions"),
        ),
        ("tools: {t: {command: [x]}}", ("tools.t",)),
        ("instructions: x", ("instructions",)),
        ("instructions: {inherit: false}", ("instructions",)),
        ("host: gpu:/x", ("host",)),
        ("root: true", ("root",)),
        ("root: false", ()),
        ("seal: true", ()),
        ("can: {read: {deny: [x], ask: [y], default: deny}}", ()),
        ("can: {read: {allow: [x]}}", ("can.read.allow",)),
        ("can: {read: {allow: []}}", ()),
        ("can: {read: {default: allow}}", ()),
        ("can: {network: {default: allow}}", ("can.network.default",)),
        ("can: {network: {default: ask}}", ()),
        ("can: {env: [LANG]}", ("can.env",)),
        ("can: {agents: {max_depth: 2, max_children: 4}}", ()),
        ("can: {agents: {max_depth: 3, max_children: 5}}", ("can.agents.max_depth", "can.agents.max_children")),
        ("can: {env: []}", ()),
        ("can: {secrets: {A: {from: keyring:a}}}", ("can.secrets",)),
        ("budget: {turns: 1}\nlimits: {files: 99}\nsandbox: {level: strict}", ()),
    ],
)
def test_what_needs_trust(text: str, keys: tuple[str, ...]) -> None:
    assert needs(text) == keys


def test_the_users_own_files_need_none() -> None:
    assert trust.needs_trust(parse("agent: absent\ntools: {t: {command: [x]}}", source.USER), lambda runtime: "doubt") == ()


def test_nothing_that_needs_trust_is_left_without_it() -> None:
    kept = trust.without_trust(parse(EXAMPLE.replace("[STYLE.md]", "[two words]")).data)
    assert set(kept) & {"tools", "instructions", "host", "root", "can"} == set()
    assert kept["roles"] == {"writer": {"runtime": "assistant"}, "proofreader": {"runtime": "proofreader"}}


# ---- the digest


FACTS = Facts(
    "/w",
    1000,
    (ChainFile("/w/.agent.yaml", b"agent: x\n", 1000, 0o644),),
    (RuntimeFacts("x", ("/bin/x",), "d"),),
    {"/w/t": "c"},
    "auto",
)


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/v"},
        {"uid": 1001},
        {"chain": (ChainFile("/w/.agent.yaml", b"agent: x\n#", 1000, 0o644),)},
        {"chain": (ChainFile("/v/.agent.yaml", b"agent: x\n", 1000, 0o644),)},
        {"runtimes": (RuntimeFacts("x", ("/bin/x", "--acp"), "d"),)},
        {"runtimes": (RuntimeFacts("x", ("/bin/x",), "e"),)},
        {"closure": {"/w/t": "d"}},
        {"closure": {"/w/t": "c", "/w/u": "c"}},
        {"level": "strict"},
    ],
)
def test_every_fact_changes_the_digest(change: dict) -> None:
    assert trust.digest(replace(FACTS, **change)) != trust.digest(FACTS)


def test_the_digest_is_stable() -> None:
    """Changing this value forgets what every person ever trusted."""
    assert trust.digest(FACTS) == "4e3eadfb1e2beb2f77de7b6b93d2acabbf8966034ea843e867d75112d2e2003f"
    assert trust.digest(FACTS) == trust.digest(Facts(**{name: getattr(FACTS, name) for name in Facts.__slots__}))


_texts = st.text(max_size=8)


@settings(max_examples=200, deadline=None)
@given(_texts, _texts, _texts, _texts)
def test_no_two_chains_share_a_digest(a: str, b: str, c: str, d: str) -> None:
    def facts(one: str, two: str) -> Facts:
        files = (ChainFile("/w/a", one.encode(), 0, 0), ChainFile("/w/b", two.encode(), 0, 0))
        return Facts("/w", 0, files, ())

    if all(text.isprintable() for text in (a, b, c, d)):
        assert (trust.digest(facts(a, b)) == trust.digest(facts(c, d))) is ((a, b) == (c, d))


def record(state: Trust, digest: str = "", path: str = "/w") -> TrustRecord:
    return TrustRecord(path, digest or trust.digest(FACTS), state, "now", "me")


@pytest.mark.parametrize(
    ("known", "state"),
    [
        (None, Trust.UNKNOWN),
        (record(Trust.ALLOWED), Trust.ALLOWED),
        (record(Trust.ALLOWED, "other"), Trust.CHANGED),
        (record(Trust.ALLOWED, path="/v"), Trust.UNKNOWN),
        (record(Trust.DENIED), Trust.DENIED),
        (record(Trust.DENIED, "other"), Trust.DENIED),
        (record(Trust.DENIED, path="/v"), Trust.UNKNOWN),
        (record(Trust.UNKNOWN), Trust.UNKNOWN),
    ],
)
def test_what_a_record_says(known: TrustRecord | None, state: Trust) -> None:
    assert trust.state(FACTS, known) is state


def test_where_nothing_needs_trust_only_a_denial_counts() -> None:
    bare = Facts("/w", 0, (), ())
    assert trust.state(bare, None) is Trust.UNNEEDED
    assert trust.state(bare, record(Trust.ALLOWED, "old")) is Trust.UNNEEDED
    assert trust.state(bare, record(Trust.DENIED)) is Trust.DENIED


# ---- what acts


TOOLS = "agent: librarian\ntools: {t: {command: [server]}}\ncan: {network: {allow: [e.org]}}\nbudget: {turns: 9}\n"


def test_a_binding_acts_only_when_its_digest_is_known(home: Path) -> None:
    tree(home, {"a": TOOLS})
    records = Records()
    found = records.judge(opened(home / "a", home))
    assert (found.state, found.acts, found.binding.tools) == (Trust.UNKNOWN, False, {})
    assert word(found.binding, "network", "e.org") == "ask" and found.binding.budget == {"turns": 9}
    records.say(opened(home / "a", home), Trust.ALLOWED)
    found = records.judge(opened(home / "a", home))
    assert (found.state, found.acts, set(found.binding.tools)) == (Trust.ALLOWED, True, {"t"})
    assert word(found.binding, "network", "e.org") == "allow"
    tree(home, {"a": TOOLS + "# a comment is a change\n"})
    found = records.judge(opened(home / "a", home))
    assert (found.state, found.acts, found.binding.tools) == (Trust.CHANGED, False, {})


def test_a_plain_agent_just_works(home: Path) -> None:
    tree(home, {"a": "agent: librarian\ncan: {read: {deny: [x]}}\n"})
    found = Records().judge(opened(home / "a", home))
    assert (found.state, found.acts) == (Trust.UNNEEDED, True)


def test_a_denial_survives_edits(home: Path) -> None:
    tree(home, {"a": TOOLS})
    records = Records()
    records.say(opened(home / "a", home), Trust.DENIED)
    tree(home, {"a": "agent: librarian\n"})
    found = records.judge(opened(home / "a", home))
    assert (found.state, found.acts) == (Trust.DENIED, False)


def test_the_same_content_elsewhere_is_another_question(home: Path) -> None:
    tree(home, {"a": TOOLS, "b": TOOLS})
    records = Records()
    records.say(opened(home / "a", home), Trust.ALLOWED)
    assert records.judge(opened(home / "b", home)).state is Trust.UNKNOWN
    os.rename(home / "a", home / "moved")
    assert records.judge(opened(home / "moved", home)).state is Trust.UNKNOWN
    os.symlink(home / "moved", home / "a")
    assert records.judge(opened(home / "a", home)).state is Trust.UNKNOWN


def test_a_child_that_only_narrows_shares_its_parents_trust(home: Path) -> None:
    tree(home, {"a": TOOLS, "a/b": "can: {read: {deny: [x]}}\nbudget: {turns: 2}\n"})
    records = Records()
    assert records.judge(opened(home / "a/b", home)).acts is False
    records.say(opened(home / "a", home), Trust.ALLOWED)
    found = records.judge(opened(home / "a/b", home))
    assert (found.state, found.acts, set(found.binding.tools), found.binding.budget) == (Trust.ALLOWED, True, {"t"}, {"turns": 2})
    tree(home, {"a/b": "budget: {turns: 1}\n"})
    assert records.judge(opened(home / "a/b", home)).state is Trust.ALLOWED


def test_an_untrusted_child_keeps_its_parents_binding_and_adds_its_limits(home: Path) -> None:
    child = "instructions: [be evil now]\ntools: {bad: {command: [rm]}}\nbudget: {turns: 2}\nroot: true\n"
    child += "can: {network: {allow: [bad.org], deny: [x.org]}, write: {allow: ['*.md'], default: deny}, env: [LANG]}\n"
    tree(home, {"a": TOOLS.replace("e.org", "e.org, x.org"), "a/b": child})
    records = Records()
    records.say(opened(home / "a", home), Trust.ALLOWED)
    loaded = opened(home / "a/b", home)
    assert "leaves behind" in "\n".join(question.lines(loaded))
    found = records.judge(loaded)
    assert (found.state, found.acts, set(found.binding.tools)) == (Trust.UNKNOWN, True, {"t"})
    assert found.binding.agent == "librarian" and found.binding.instructions == () and found.binding.budget == {"turns": 2}
    assert [word(found.binding, "network", host) for host in ("e.org", "x.org", "bad.org")] == ["allow", "deny", "ask"]
    assert [word(found.binding, "write", path) for path in ("x.md", "x.py")] == ["allow", "deny"], "its default is a limit"
    assert found.binding.capabilities.env == () and found.binding.digest == opened(home / "a", home).digest
    assert [file.trusted for file in found.binding.chain] == [False, True]


def test_effective_without_trust_is_what_narrows(home: Path) -> None:
    tree(home, {"a": TOOLS + "instructions: [two words]\n"})
    loaded = opened(home / "a", home)
    assert effective(loaded, trusted=True) is loaded.binding
    limited = effective(loaded, trusted=False)
    assert (limited.tools, limited.instructions, limited.budget, limited.agent) == ({}, (), {"turns": 9}, "librarian")


def test_a_runtime_that_is_not_installed_needs_trust(home: Path) -> None:
    tree(home, {"a": "agent: absent\n", "b/x.md": ""})
    loaded = opened(home / "a", home)
    assert loaded.facts.chain[0].needs_trust == ("agent",) and loaded.facts.doubts == ("the runtime absent is not installed",)
    bare = unbound(str(home / "b"), "absent", home=str(home), runtimes=Catalogue())
    assert bare.facts.needed and Records().judge(bare).acts is False


def test_a_foreign_runtime_needs_trust_which_a_narrowing_child_shares(home: Path) -> None:
    tree(
        home,
        {"a": "agent: foreign\n", "a/b": "can: {read: {deny: [x]}}\n", "a/c": "agent: librarian\ninstructions: [two words]\n"},
    )
    records = Records()
    assert [records.judge(opened(home / name, home)).acts for name in ("a", "a/b", "a/c")] == [False, False, False]
    records.say(opened(home / "a", home), Trust.ALLOWED)
    assert records.judge(opened(home / "a/b", home)).state is Trust.ALLOWED
    found = records.judge(opened(home / "a/c", home))
    assert (found.state, found.acts, found.binding.agent, found.binding.instructions) == (Trust.UNKNOWN, True, "librarian", ())
    tree(home, {"a/d": "agent: absent\n"})
    assert records.judge(opened(home / "a/d", home)).acts is False


def test_a_child_where_the_runtime_finds_files_to_execute_is_asked_about(home: Path) -> None:
    tree(home, {"a": "agent: runner\n", "a/.tool.json": "{}", "a/b": "can: {read: {deny: [x]}}\n", "a/c": "budget: {turns: 1}\n"})
    tree(home, {"a/b/.tool.json": "{evil}"})
    records = Records()
    records.say(opened(home / "a", home), Trust.ALLOWED)
    assert records.judge(opened(home / "a/c", home)).acts is True
    found = records.judge(opened(home / "a/b", home))
    assert (found.state, found.acts) == (Trust.UNKNOWN, False)


def test_a_runtime_that_executes_files_of_the_workspace_needs_trust_where_there_are_some(home: Path) -> None:
    tree(home, {"a": "agent: runner\n", "a/sub": "budget: {turns: 1}\n"})
    records = Records()
    assert records.judge(opened(home / "a", home)).state is Trust.UNNEEDED
    tree(home, {"a/.tool.json": "{}", "a/hooks/one.sh": "echo 1"})
    loaded = opened(home / "a", home)
    assert set(loaded.facts.closure) == {f"{home}/a/.tool.json", f"{home}/a/hooks/one.sh"}
    assert records.judge(loaded).state is Trust.UNKNOWN
    records.say(loaded, Trust.ALLOWED)
    assert records.judge(opened(home / "a", home)).state is Trust.ALLOWED
    tree(home, {"a/hooks/one.sh": "echo 2"})
    assert records.judge(opened(home / "a", home)).state is Trust.CHANGED
    tree(home, {"a/hooks/one.sh": "echo 1", "a/hooks/two.sh": ""})
    assert records.judge(opened(home / "a", home)).state is Trust.CHANGED


def test_a_change_of_the_program_asks_again(home: Path) -> None:
    tree(home, {"a": "agent: w\nroles: {w: {runtime: assistant, model: m}}\n"})
    records, runtimes = Records(), Catalogue()
    records.say(opened(home / "a", home, runtimes), Trust.ALLOWED)
    runtimes.digests["librarian"] = "another program"
    assert records.judge(opened(home / "a", home, runtimes)).state is Trust.ALLOWED
    runtimes.digests["assistant"] = "changed"
    assert records.judge(opened(home / "a", home, runtimes)).state is Trust.CHANGED


def test_what_a_tool_would_execute_in_the_workspace_is_covered(home: Path) -> None:
    tree(home, {"a": "agent: librarian\ntools: {t: {command: [python3, tools/x.py, --flag]}}\n", "a/tools/x.py": "print(1)"})
    records = Records()
    loaded = opened(home / "a", home)
    assert set(loaded.facts.closure) == {f"{home}/a/tools/x.py"}
    records.say(loaded, Trust.ALLOWED)
    tree(home, {"a/tools/x.py": "print(2)"})
    assert records.judge(opened(home / "a", home)).state is Trust.CHANGED
    tree(home, {"a/tools/x.py": "print(1)"})
    assert records.judge(opened(home / "a", home)).state is Trust.ALLOWED
    os.rename(home / "a/tools/x.py", home / "a/y.py")
    os.symlink("../y.py", home / "a/tools/x.py")
    assert records.judge(opened(home / "a", home)).state is Trust.CHANGED


def test_too_much_to_hash_cannot_be_trusted(home: Path) -> None:
    tree(home, {"a": "agent: runner\n"})
    (home / "a/hooks").mkdir()
    for number in range(2001):
        (home / f"a/hooks/{number}").touch()
    loaded = opened(home / "a", home)
    assert "more than 2000 files" in loaded.facts.obstacle
    records = Records()
    records.say(loaded, Trust.ALLOWED)
    assert records.judge(opened(home / "a", home)).state is Trust.UNKNOWN
    assert "no answer" in "\n".join(question.lines(loaded))
    os.mkfifo(home / "a/.tool.json")
    assert opened(home / "a", home).facts.obstacle, "never blocks"


def test_a_linked_directory_is_hashed_or_cannot_be_trusted(home: Path) -> None:
    tree(home, {"a": "agent: runner\n", "a/hooks/lib/a.sh": "a", "a/elsewhere/b.sh": "b"})
    hooks = home / "a/hooks"
    (hooks / "lib64").symlink_to("lib")
    found = opened(home / "a", home).facts
    assert set(found.closure) == {f"{hooks}/lib/a.sh", f"{hooks}/lib64"} and not found.obstacle
    (hooks / "lib64").unlink()
    (hooks / "lib64").symlink_to(".")
    assert opened(home / "a", home).facts.closure[f"{hooks}/lib64"] != found.closure[f"{hooks}/lib64"]
    (hooks / "more").symlink_to("../elsewhere")
    assert "more cannot be part" in opened(home / "a", home).facts.obstacle


def test_choosing_an_installed_agent_keeps_the_trust_of_the_binding(home: Path) -> None:
    tree(home, {"a": TOOLS})
    records = Records()
    records.say(opened(home / "a", home), Trust.ALLOWED)
    other = load(str(home / "a"), home=str(home), runtimes=Catalogue(), agent="assistant")
    assert records.judge(other).state is Trust.ALLOWED and records.judge(other).binding.agent == "assistant"
    foreign = load(str(home / "a"), home=str(home), runtimes=Catalogue(), agent="foreign")
    assert records.judge(foreign).state is Trust.ALLOWED, "a trusted workspace is enough for a foreign runtime"
    absent = load(str(home / "a"), home=str(home), runtimes=Catalogue(), agent="absent")
    assert records.judge(absent).acts is False


def test_choosing_a_foreign_agent_asks_where_nothing_was_asked_before(home: Path) -> None:
    tree(home, {"a": "agent: librarian\n"})
    records = Records()
    foreign = load(str(home / "a"), home=str(home), runtimes=Catalogue(), agent="foreign")
    assert records.judge(foreign).state is Trust.UNKNOWN
    assert "foreign" in "\n".join(question.lines(foreign))
    records.say(foreign, Trust.ALLOWED)
    assert records.judge(foreign).acts is True
    assert records.judge(opened(home / "a", home)).state is Trust.UNNEEDED
    tree(home, {"a/.tool.json": "{}"})
    runner = load(str(home / "a"), home=str(home), runtimes=Catalogue(), agent="runner")
    assert records.judge(runner).acts is False and set(runner.facts.closure) == {f"{home}/a/.tool.json"}


# ---- the question


def test_the_question_says_everything_exactly(home: Path) -> None:
    tree(home, {"docs": EXAMPLE.replace("proofreader", "librarian").replace("seal: true\n", "").replace('["fs/read_*"]', "[]")})
    tree(home, {"docs/STYLE.md": "be short"})
    text = "\n".join(question.lines(opened(home / "docs", home)))
    for part in (
        f"{home}/docs asks to act",
        "agent          writer",
        "writer: runtime assistant, model provider/model, mode ask",
        "/usr/bin/assistant --acp",
        f"in           {home}/docs",
        "github-mcp-server stdio  (tool github)",
        "may write      **/*.md",
        "may write      otherwise: deny",
        "may run        git status|diff|log",
        "may connect to api.example.com",
        "passes on      LANG CI",
        "secret         MODEL_API_KEY -> api.example.com (from keyring:model)",
        "cost 5",
        "currency USD",
        "tokens 2000000",
        "sandbox        strict",
        "the file STYLE.md",
        "You write for people",
    ):
        assert part in text, part


@pytest.mark.parametrize("character", ["\u202e", "\u200b", "\x1b", "\x07", "\u2066", "\ufeff", "\u00ad", "\U000e0041", "\u2028"])
def test_nothing_can_hide_in_the_question(character: str) -> None:
    assert question.visible(f"a{character}b") == f"a<U+{ord(character):04X}>b"


def test_lines_stay_lines() -> None:
    assert question.visible("a\nb\r\tc") == "a<U+000A>b<U+000D> c"


def test_instructions_from_files_cannot_forge_the_question(home: Path) -> None:
    tree(home, {"a": 'agent: librarian\nroles:\n  w: {runtime: librarian, instructions: "x\\n  sandbox        strict"}\n'})
    lines = question.lines(opened(home / "a", home))
    assert sum(line.startswith("  sandbox") for line in lines) == 1
    assert all("\n" not in line for line in lines)


def test_a_change_is_shown_line_by_line(home: Path) -> None:
    tree(home, {"a": TOOLS})
    before = question.shown(opened(home / "a", home))
    tree(home, {"a": TOOLS.replace("[server]", "[server, --evil]")})
    lines = trust.difference(before, question.shown(opened(home / "a", home)))
    assert "-tools: {t: {command: [server]}}" in lines and "+tools: {t: {command: [server, --evil]}}" in lines
    assert any(line.startswith("+  starts") and "--evil" in line for line in lines)
    assert trust.difference(before, before) == ()
