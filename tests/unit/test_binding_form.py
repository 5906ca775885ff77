"""One file by itself: the schema, the places of its errors, and what may not stand in it."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from opagent import yamlfile
from opagent.binding import schema, source, template, units
from opagent.errors import BindingInvalid, Usage
from opagent.model import Effect
from tests.hostile.bombs import mutations

EXAMPLE = """
version: 1
agent: writer
roles:
  writer:
    runtime: assistant
    model: provider/model
    mode: ask
    instructions: |
      You write for people who have five minutes.
  proofreader: {runtime: proofreader}
instructions: [STYLE.md]
conversations: conversations/
can:
  read:    {deny: ["**/.env*", "secrets/"]}
  write:   {allow: ["**/*.md"], default: deny}
  exec:    {allow: [[git, [status, diff, log]]], ask: [[git, push]]}
  network: {allow: ["api.example.com"], default: deny}
  agents:  {allow: [proofreader, "../api"], max_depth: 2, max_children: 4}
  mcp:     {allow: ["fs/read_*"], ask: ["github/*"]}
  secrets: {MODEL_API_KEY: {from: "keyring:model", to: "api.example.com"}}
  env:     [LANG, CI]
tools:
  github: {command: [github-mcp-server, stdio]}
budget:    {cost: 5 USD, tokens: 2M, wall: 2h, turns: 200, per: day, tool_calls: 50, messages: 10}
limits:    {memory: 2G, processes: 64, tmp: 256M, file: 1G, files: 1024, disk: 2G, ports: 0}
sandbox:   {level: strict}
approvals: {timeout: 10m, on_timeout: deny}
supervise: {restart: on-failure}
seal: true
tests:
  - {read: ".env", is: deny}
  - {exec: [git, push, origin], is: ask}
"""


def parse(text: str, kind: str = source.WORKSPACE) -> source.Source:
    found = SimpleNamespace(content=text.encode(), uid=0, mode=0o644)
    return source.parse("/w/.agent.yaml", "/w", kind, found, "/home/u")


def why(text: str, kind: str = source.WORKSPACE) -> list[str]:
    with pytest.raises(BindingInvalid) as caught:
        parse(text, kind)
    return [line.removeprefix("/w/.agent.yaml:") for line in caught.value.why.splitlines()]


def test_the_example_of_the_docs_is_valid_and_typed() -> None:
    data = parse(EXAMPLE).data
    assert data["version"] == 1 and data["budget"]["turns"] == 200 and data["limits"]["ports"] == 0
    assert data["budget"]["tokens"] == "2M" and data["seal"] is True
    assert data["roles"]["writer"]["instructions"] == "You write for people who have five minutes.\n"


def test_words_that_look_like_values_stay_words() -> None:
    data = parse('agent: "no"\nroles:\n  "no": {runtime: yes, model: 1.10, mode: 022, instructions: 12:30:45}\n').data
    assert data["roles"]["no"] == {"runtime": "yes", "model": "1.10", "mode": "022", "instructions": "12:30:45"}


def test_a_quoted_number_is_no_number() -> None:
    assert why('limits: {processes: "64"}') == ['1:21: limits.processes: expected a number of processes from 1 on, found "64"']


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("agnet: x", "1:1: agnet: unknown key (did you mean agent?)"),
        ("agent: x\ncan:\n  reed: {}\n", "3:3: can.reed: unknown key (did you mean read?)"),
        ("agent: [x]", "1:8: agent: expected the name of a role: what `opagent open` starts here, found a list"),
        ("agent:", "found nothing"),
        ("version: 2", "1:10: version: expected 1, the version of this format, found 2"),
        ("roles: {a: {}}", "1:12: roles.a: runtime is missing"),
        ("roles: {a: {runtime: x, env: {A: b}}}", "1:25: roles.a.env: unknown key"),
        ("roles: {a.b: {runtime: x}}", "1:9: roles.a.b: 'a.b' is no valid name"),
        ("budget: {cost: 5}", '1:16: budget.cost: expected an amount and a currency, for example 5 USD, found "5"'),
        ("budget: {tokens: 2 M}", "expected a number such as 200, 50k or 2M"),
        ("budget: {wall: 2 hours}", "expected a duration such as 90s, 10m or 2h"),
        ("budget: {turns: -1}", "expected a number such as 200, 50k or 2M"),
        ("budget: {turns: 1.5}", "expected a number such as 200, 50k or 2M"),
        ("can: {exec: {allow: [git]}}", "can.exec.allow.0: expected a command as a list of words"),
        ("can: {exec: {allow: [[git, [a, [b]]]]}}", "can.exec.allow.0.1.1: expected a word, found a list"),
        ("can: {exec: {allow: [[]]}}", "can.exec.allow.0: expected a command as a list of words"),
        ("can: {read: {default: no}}", 'can.read.default: expected allow, ask or deny, found "no"'),
        ("can: {env: [lang]}", 'can.env.0: expected the name of a variable, in capitals, found "lang"'),
        ("can: {secrets: {A: {to: x}}}", "can.secrets.A: from is missing"),
        ("tests: [{is: deny}]", "tests.0: expected one request and what becomes of it"),
        ("tests: [{read: a, write: b, is: deny}]", "tests.0: expected one request"),
        ("root: yes", 'root: expected true (parents do not count) or false, found "yes"'),
        ("approvals: {on_timeout: allow}", "expected deny or keep"),
        ("supervise: {restart: sometimes}", "expected on-failure, never or always"),
        ("host: gpu1", "host: expected another machine and a path"),
        ("[]", "1:1: expected a map that binds a directory to an agent"),
        ("just words", "1:1: expected a map"),
        # what a schema cannot say
        ("hardlinks: ok", "1:1: hardlinks: only in your own configuration"),
        ("notify: {command: [ls]}", "1:1: notify: only in your own configuration"),
        ("sandbox: {level: off}", "sandbox.level: off only in your own configuration"),
        ("approvals: {in_file: unsandboxed}", "approvals.in_file: only in your own configuration"),
        ("approvals: {timeout: 5s}", "expected a duration from 1m to 24h, found 5s"),
        ("approvals: {timeout: 2d}", "expected a duration from 1m to 24h, found 2d"),
        ("can: {env: [LD_PRELOAD]}", "can.env.0: LD_PRELOAD is never passed on"),
        ("can: {secrets: {OPENAI_BASE_URL: {from: keyring:x}}}", "OPENAI_BASE_URL is never set"),
        ("can: {secrets: {KEY: {from: 'cmd:touch x'}}}", "can.secrets.KEY.from: expected keyring:NAME or user:NAME"),
        ("can: {secrets: {KEY: {from: 'file:/etc/shadow'}}}", "expected keyring:NAME or user:NAME"),
        ("can: {secrets: {KEY: {from: 'env:HOME'}}}", "expected keyring:NAME or user:NAME"),
        ("can: {secrets: {KEY: {from: 'KEY'}}}", "can.secrets.KEY.from: expected keyring:NAME or user:NAME"),
        ("can: {read: {deny: ['']}}", "1:21: can.read.deny.0: can never match: it is empty"),
        ("can: {read: {deny: [/etc/passwd]}}", "can.read.deny.0: leaves the workspace"),
        ("can: {read: {deny: [../x]}}", "can.read.deny.0: leaves the directory of this file"),
        ("can: {read: {allow: [a], deny: [a]}}", "can.read.allow.0: can never match: the same pattern stands in deny"),
        ("tools: {x: {command: ['']}}", "tools.x.command.0: the program is empty"),
        ("conversations: .", "conversations: expected a directory of its own below the workspace"),
        ("conversations: ../x", "conversations: expected a directory of its own below the workspace"),
        ("conversations: /tmp/x", "conversations: expected a directory of its own below the workspace"),
        ("conversations: ./", "conversations: expected a directory of its own below the workspace"),
        ("conversations: '**'", "conversations: expected a directory of its own below the workspace"),
        ("conversations: .git/x", "conversations: this directory has another use"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, said: str) -> None:
    found = why(text)
    assert len(found) == 1 and said in found[0]


def test_all_problems_of_a_file_come_together_in_its_order() -> None:
    found = why("role: x\nagent: [1]\ncan: {reed: {}, write: {default: maybe}}\nbudget: {cost: 5}\n")
    assert [line.split(": ")[0] for line in found] == ["1:1", "2:8", "3:7", "3:34", "4:16"]
    found = why("can: {read: {deny: [/x, ../y]}, env: [GIT_DIR, LD_PRELOAD]}\nconversations: /\n")
    assert len(found) == 5


def test_own_files_may_say_more_and_less() -> None:
    own = "hardlinks: ok\nnotify: {command: [ls], desktop: false}\nsandbox: {level: off}\napprovals: {in_file: unsandboxed}\n"
    own += "can: {secrets: {K: {from: 'cmd:pass show k'}}, read: {deny: [~/x/, /srv/]}}\n"
    parsed = parse(own, source.USER)
    assert parsed.layer.kinds["read"].deny == ("/home/u/x/", "/srv/")
    assert [line.split(": ")[1] for line in why("root: true\nhost: a:/b\nseal: true\n", source.USER)] == ["root", "host", "seal"]
    assert [line.split(": ")[1] for line in why("agent: x\ntools: {}\nroot: true\n", source.MACHINE)] == [
        "agent",
        "tools",
        "root",
    ]
    assert parse("can: {network: {default: deny}}\nbudget: {turns: 5}\n", source.MACHINE).layer.name == "machine"


@pytest.mark.parametrize(
    "host", ["gpu1:/srv/x", "me@gpu1.lan:/", "ssh://gpu1/srv", "ssh://me@gpu1:2222/srv/a b", "ssh://[::1]:22/x"]
)
def test_other_machines(host: str) -> None:
    assert parse(f"host: '{host}'").data["host"] == host


@pytest.mark.parametrize(
    "host", ["gpu1", "-o:/x", "ssh://-oX=y/x", "ssh:///x", "a b:/x", "ssh://a", "x:/a\\n", "me@-a:/x", "ssh://a:b/x"]
)
def test_what_is_no_other_machine(host: str) -> None:
    assert "host: expected another machine" in why(f'host: "{host}"')[0]


NEVER = """
    LD_PRELOAD LD_LIBRARY_PATH DYLD_INSERT_LIBRARIES GCONV_PATH BASH_ENV ENV IFS PROMPT_COMMAND PYTHONPATH PYTHONSTARTUP
    NODE_OPTIONS PERL5LIB PERL5OPT RUBYOPT JAVA_TOOL_OPTIONS _JAVA_OPTIONS GIT_DIR GIT_SSH_COMMAND SSH_AUTH_SOCK SSH_ASKPASS
    XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS DISPLAY WAYLAND_DISPLAY X_BASE_URL X_API_BASE X_ENDPOINT HTTPS_PROXY OPAGENT_STATE_DIR
"""


@pytest.mark.parametrize("name", NEVER.split())
def test_names_that_are_never_passed_on(name: str) -> None:
    assert source.FORBIDDEN_ENV.fullmatch(name)


@pytest.mark.parametrize("name", ["LANG", "CI", "HOME", "ENVIRONMENT", "MY_LD_PRELOADED", "PYTHONUNBUFFERED", "DIGITAL"])
def test_names_that_may_be_passed_on(name: str) -> None:
    assert not source.FORBIDDEN_ENV.fullmatch(name)


def test_every_rule_knows_its_line() -> None:
    layer = parse("can:\n  write:\n    allow: [a,\n      b]\n    default: deny\n").layer
    assert layer.kinds["write"].lines == {"allow.0": 3, "allow.1": 4, "default": 5}
    assert layer.kinds["write"].default is Effect.DENY


def test_the_schema_is_a_valid_draft_07_and_says_the_same_as_another_validator() -> None:
    jsonschema.Draft7Validator.check_schema(schema.agent_schema())
    validator = jsonschema.Draft7Validator(schema.agent_schema())
    assert not list(validator.iter_errors(yaml.safe_load(EXAMPLE)))
    agreed = 0
    for data in mutations(1000, seed=7):
        try:
            node = yamlfile.load(data, "f")
        except BindingInvalid:
            continue
        typed = schema.typed(node, schema.agent_schema())
        try:
            schema.check(node, "f")
            valid = True
        except BindingInvalid:
            valid = False
        assert validator.is_valid(typed) is valid
        agreed += 1
    assert agreed > 50


def test_every_part_of_the_schema_is_described() -> None:
    def walk(part: object, path: str) -> None:
        if isinstance(part, dict):
            if "type" in part and not path.endswith("items") and "definitions/texts" not in path:
                assert part.get("description"), path
            for key, value in part.items():
                walk(value, f"{path}/{key}")

    walk(schema.agent_schema(), "")


def test_two_thousand_mutations_raise_nothing_else() -> None:
    valid = 0
    for data in mutations(2000, seed=1):
        try:
            source.parse("/w/.agent.yaml", "/w", source.WORKSPACE, SimpleNamespace(content=data, uid=0, mode=0o600), "/home/u")
            valid += 1
        except BindingInvalid as error:
            assert error.why.startswith("/w/.agent.yaml:")
    assert 50 < valid < 1900


_scalars = st.one_of(
    st.integers(-5, 5), st.booleans(), st.none(), st.sampled_from(["deny", "x", "2h", "5 USD", "a/b", "**", "../x"])
)
_keys = st.sampled_from(
    [
        "agent",
        "roles",
        "can",
        "read",
        "exec",
        "allow",
        "deny",
        "default",
        "runtime",
        "tests",
        "is",
        "budget",
        "x",
        "tools",
        "env",
        "secrets",
    ]
)
_trees = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4), max_leaves=15
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(_keys, _trees, max_size=4))
def test_any_tree_is_read_or_refused_in_words(tree: dict) -> None:
    try:
        parse(json.dumps(tree))
    except BindingInvalid as error:
        assert all(line.startswith("/w/.agent.yaml:1:") for line in error.why.splitlines())


def test_units() -> None:
    assert [units.seconds(text) for text in ("90s", "1.5m", "2h", "1d")] == [90, 90, 7200, 86400]
    assert units.size("2G") == 2 << 30 and units.size("0.5M") == 1 << 19 and units.size(7) == 7
    assert units.amount("2M") == 2_000_000 and units.amount("1.5k") == 1500 and units.amount(3) == 3
    assert units.money("5.50 USD") == (5.5, "USD")


def test_the_template_is_valid_needs_no_trust_and_so_is_each_of_its_comments() -> None:
    text = template.text("librarian")
    assert parse(text).data["agent"] == "librarian"
    prose = re.compile("# [^ ]")
    everything = "\n".join(line.removeprefix("#") for line in text.splitlines() if not prose.match(line))
    full = parse(everything).data
    assert {"roles", "instructions", "budget", "approvals", "tests"} <= set(full) and {"write", "exec", "network"} <= set(
        full["can"]
    )
    for name in ("", "a b", "../x", "a\nroot: true", "-x"):
        with pytest.raises(Usage):
            template.text(name)
