"""From a target to a binding: the chain that is found, what it merges to, and where every value comes from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from opagent import paths
from opagent.binding import find, template
from opagent.binding.load import Loaded, effective, load, role, unbound
from opagent.errors import BindingInvalid, NoBinding, NotFound, WorkspaceRefused
from opagent.model import Binding
from opagent.policy.decide import decide
from tests.doubles.catalogue import Catalogue, tree
from tests.doubles.steps import steps

PLAIN = "agent: librarian\n"


def opened(target: Path | str, home: Path, **more: object) -> Loaded:
    return load(str(target), home=str(home), runtimes=Catalogue(), **more)  # type: ignore[arg-type]


def problems(target: Path, home: Path) -> str:
    with pytest.raises(BindingInvalid) as caught:
        opened(target, home)
    return caught.value.why


def word(binding: Binding, kind: str, request: object) -> str:
    return decide(binding.capabilities, kind, request).effect.word  # type: ignore[arg-type]


def origin(loaded: Loaded, key: str) -> str:
    return str(loaded.binding.origins[key]).removeprefix(str(loaded.given.floor.base) + "/")


# ---- finding


def test_the_nearest_file_is_the_workspace_and_the_target_the_focus(home: Path) -> None:
    tree(home, {"docs": PLAIN, "docs/api": "can: {write: {deny: [x]}}\n", "docs/api/src/deep/a.md": "text"})
    assert (opened(home / "docs", home).workspace, opened(home / "docs", home).focus) == (str(home / "docs"), "")
    below = opened(home / "docs/api/src/deep", home)
    assert (below.workspace, below.focus) == (str(home / "docs/api"), "src/deep")
    assert [Path(each.path).parent.name for each in below.chain] == ["api", "docs"]
    of_file = opened(home / "docs/api/src/deep/a.md", home)
    assert (of_file.workspace, of_file.focus) == (str(home / "docs/api"), "src/deep/a.md")


def test_every_way_to_name_a_directory_gives_the_same_binding(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(home, {"docs": PLAIN + "can: {read: {deny: [x]}}\n", "docs/sub/deep/a.md": ""})
    os.symlink(home / "docs", home / "link")
    os.symlink(home / "docs/sub", home / "far")
    monkeypatch.chdir(home / "docs/sub")
    ways = (home / "docs", home / "link", home / "link/sub/..", home / "far", ".", "..", "deep", "deep/a.md", "deep/../../sub")
    loaded = [opened(way, home) for way in ways]
    assert len({each.binding.digest for each in loaded}) == 1
    assert all(each.binding == loaded[0].binding for each in loaded)


def test_without_a_file_there_is_a_hint(home: Path) -> None:
    (home / "docs").mkdir()
    with pytest.raises(NoBinding) as caught:
        opened(home / "docs", home)
    assert caught.value.hint == f"opagent init {home}/docs"
    tree(home, {"docs/.agent.yml": PLAIN})
    with pytest.raises(NoBinding, match="not bound") as caught:
        opened(home / "docs", home)
    assert ".agent.yml is here, but the file is called .agent.yaml" in caught.value.why
    with pytest.raises(NotFound, match="does not exist"):
        opened(home / "nowhere", home)


def test_the_file_of_the_home_directory_gives_defaults_only(home: Path) -> None:
    tree(home, {".agent.yaml": "agent: assistant\nbudget: {turns: 9}\ncan: {network: {allow: [e.org], default: deny}}\n"})
    (home / "docs").mkdir()
    with pytest.raises(NoBinding) as caught:
        opened(home / "docs", home)
    assert "gives defaults only" in caught.value.why
    tree(home, {"docs": "can: {network: {allow: [x.org]}}\n"})
    loaded = opened(home / "docs", home)
    assert loaded.binding.agent == "assistant" and loaded.binding.budget["turns"] == 9
    assert [word(loaded.binding, "network", host) for host in ("e.org", "x.org", "y.org")] == ["allow", "allow", "deny"]


@pytest.mark.parametrize("refused", ["/", "/etc", "~", "state", "above the state"])
def test_directories_that_are_never_workspaces(home: Path, refused: str) -> None:
    paths.state().mkdir(parents=True)
    target = {"~": home, "state": paths.state(), "above the state": paths.state().parent}.get(refused, Path(refused))
    with pytest.raises(WorkspaceRefused):
        opened(target, home)
    with pytest.raises(WorkspaceRefused):
        unbound(str(target), "librarian", home=str(home), runtimes=Catalogue())


def test_the_walk_ends_at_home(home: Path) -> None:
    tree(home.parent, {".agent.yaml": "budget: {turns: 1}\n"})
    tree(home, {"docs": PLAIN})
    assert len(opened(home / "docs", home).chain) == 1
    outside = tree(home.parent / "elsewhere", {".agent.yaml": PLAIN})
    assert opened(outside, home).binding.budget == {"turns": 1}


def test_the_walk_ends_at_a_mount_point(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shm = Path("/dev/shm") / home.parent.name  # a file system of its own on every Linux
    shm.mkdir()
    try:
        assert find.chain(str(shm), str(home)).files == ()
        steps = list(find._upwards(str(shm), str(home)))
        assert steps == [str(shm), "/dev/shm"]
    finally:
        shm.rmdir()


def test_more_than_32_levels_are_refused(home: Path) -> None:
    deep = home / "/".join(f"d{level}" for level in range(40))
    deep.mkdir(parents=True)
    tree(home, {"d0": PLAIN})
    with pytest.raises(BindingInvalid, match="more than 32 directories"):
        opened(deep, home)
    assert opened(deep.parents[10], home).binding.agent == "librarian"


def test_a_link_to_a_binding_is_not_followed(home: Path) -> None:
    tree(home, {"real": PLAIN, "docs/a.md": ""})
    os.symlink(home / "real/.agent.yaml", home / "docs/.agent.yaml")
    assert problems(home / "docs", home) == f"{home}/docs/.agent.yaml:1:1: is a link, not a file"


def test_what_is_no_plain_file_never_blocks(home: Path) -> None:
    (home / "docs").mkdir()
    os.mkfifo(home / "docs/.agent.yaml")
    assert "is not a regular file" in problems(home / "docs", home)
    os.unlink(home / "docs/.agent.yaml")
    (home / "docs/.agent.yaml").mkdir()
    assert "is not a regular file" in problems(home / "docs", home)
    (home / "docs/.agent.yaml").rmdir()
    with open(home / "docs/.agent.yaml", "wb") as huge:
        huge.truncate(1 << 40)
    assert "is too large" in problems(home / "docs", home)


@pytest.mark.parametrize(("mode", "said"), [(0o666, "everybody can write"), (0o664, None)])
def test_a_file_that_others_can_write_is_refused(home: Path, mode: int, said: str | None) -> None:
    tree(home, {"docs": PLAIN})
    os.chmod(home / "docs/.agent.yaml", mode)
    if said:
        assert said in problems(home / "docs", home)
    else:
        assert opened(home / "docs", home)


def test_a_parent_that_others_can_write_is_refused_unless_it_is_sticky(home: Path) -> None:
    tree(home, {"shared/docs": PLAIN})
    os.chmod(home / "shared", 0o777)
    assert f"everybody can write {home}/shared" in problems(home / "shared/docs", home)
    os.chmod(home / "shared", 0o1777)
    assert opened(home / "shared/docs", home).binding.agent == "librarian"


# ---- merging


PARENT = """\
agent: assistant
conversations: talks
roles:
  one: {runtime: assistant, model: m}
  two: {runtime: assistant}
instructions: [top words here]
approvals: {timeout: 5m, on_timeout: keep}
budget: {turns: 10, cost: 5 USD, wall: 1h, per: day}
limits: {memory: 2G}
sandbox: {level: landlock}
tools: {t: {command: [x]}, u: {command: [y]}}
"""
CHILD = """\
agent: one
roles:
  one: {runtime: librarian}
instructions: [deeper words here]
approvals: {timeout: 2m}
budget: {turns: 20, cost: 2.5 USD, tokens: 1k, per: total}
limits: {memory: 1G, files: 64}
sandbox: {level: auto}
tools: {t: {command: [z]}}
"""


def test_the_rules_of_the_table(home: Path) -> None:
    tree(home, {"a": PARENT, "a/b": CHILD})
    loaded = opened(home / "a/b", home)
    binding = loaded.binding
    assert binding.agent == "one" and binding.conversations == "talks/"
    assert binding.roles["one"].runtime == "librarian" and binding.roles["one"].model is None and "two" in binding.roles
    assert [each.text for each in binding.instructions] == ["top words here", "deeper words here"]
    assert binding.approvals == {"timeout": 120.0, "on_timeout": "keep"}
    assert binding.budget == {"turns": 10, "cost": 2.5, "currency": "USD", "wall": 3600.0, "tokens": 1000, "per": "total"}
    assert binding.limits == {"memory": 1 << 30, "files": 64} and binding.sandbox == {"level": "landlock"}
    assert binding.tools["t"]["command"] == ("z",) and binding.tools["u"]["base"] == str(home / "a")
    assert origin(loaded, "agent") == ".agent.yaml:1" and origin(loaded, "roles.one.runtime") == ".agent.yaml:3"
    assert str(binding.origins["budget.turns"]) == f"{home}/a/.agent.yaml:8"
    assert "roles.one.model" not in binding.origins
    assert {key: [str(each) for each in value] for key, value in binding.narrowed.items()} == {
        "budget.cost": [f"{home}/a/.agent.yaml:8"],
        "budget.per": [f"{home}/a/.agent.yaml:8"],
        "limits.memory": [f"{home}/a/.agent.yaml:9"],
    }


def test_instructions_come_from_files_and_may_start_anew(home: Path) -> None:
    tree(home, {"a": "instructions: [STYLE.md, two words]\n", "a/STYLE.md": "be short", "a/b": "instructions: more\n"})
    loaded = opened(home / "a/b", home)
    assert [(each.text, each.file) for each in loaded.binding.instructions] == [
        ("be short", "STYLE.md"), ("two words", None), ("more", None),
    ]  # fmt: skip
    tree(home, {"a/b": "instructions: {inherit: false, text: alone, files: [X.md]}\n", "a/b/X.md": "x"})
    assert [each.text for each in opened(home / "a/b", home).binding.instructions] == ["x", "alone"]


@pytest.mark.parametrize("name", ["MISSING.md", "../secret", "/etc/passwd", "out", "fifo", "binary"])
def test_an_instruction_file_that_cannot_be_read_is_an_error(home: Path, name: str) -> None:
    tree(home, {"secret.md": "x", "a/x.md": ""})
    os.symlink("/etc/passwd", home / "a/out")
    os.mkfifo(home / "a/fifo")
    (home / "a/binary").write_bytes(b"\xff\xfe")
    tree(home, {"a": f"instructions: [{name}]\n"})
    assert f"a/.agent.yaml:1:16: instructions.0: the file '{name}' cannot be read" in problems(home / "a", home)


def test_a_root_cuts_the_chain_and_a_seal_forbids_it(home: Path) -> None:
    tree(
        home,
        {
            "a": "budget: {turns: 1}\n",
            "a/b": "root: true\nagent: librarian\ncan: {read: {default: ask}}\n",
            "a/b/c": "limits: {files: 99}\n",
        },
    )
    loaded = opened(home / "a/b/c", home)
    assert loaded.binding.budget == {} and len(loaded.binding.chain) == 2 and len(loaded.chain) == 3
    assert effective(loaded, trusted=False).budget == {"turns": 1}, "an untrusted root cuts nothing"
    tree(home, {"a": "seal: true\n"})
    assert f"a/b/.agent.yaml:1:7: root: {home}/a/.agent.yaml:1 says seal: true" in problems(home / "a/b/c", home)


def test_env_and_secrets_only_get_fewer(home: Path) -> None:
    top = "can: {env: [LANG, CI, TERM], secrets: {A: {from: keyring:a}, B: {from: keyring:b, to: e.org}}}\n"
    tree(
        home,
        {"a": top, "a/b": "can: {env: [CI, EXTRA], secrets: {B: {from: keyring:other}, C: {from: keyring:c}}}\n", "a/b/c": PLAIN},
    )
    capabilities = opened(home / "a/b/c", home).binding.capabilities
    assert capabilities.env == ("CI",)
    assert capabilities.secrets == {"B": {"from": "keyring:b", "to": "e.org"}}
    assert [word(opened(home / "a/b", home).binding, "secrets", name) for name in "ABC"] == ["deny", "allow", "deny"]


def test_depth_and_children_take_the_least(home: Path) -> None:
    tree(home, {"a": "can: {agents: {max_depth: 5}}\n", "a/b": "can: {agents: {max_depth: 3, max_children: 9}}\n"})
    capabilities = opened(home / "a/b", home).binding.capabilities
    assert (capabilities.max_depth, capabilities.max_children) == (3, 4), "only the outermost file may raise what is built in"
    tree(home, {"c": PLAIN})
    assert opened(home / "c", home).binding.capabilities.max_depth == 2
    own(paths.user_config(), "can: {agents: {max_depth: 4, max_children: 6}}\n")
    capabilities = opened(home / "a", home).binding.capabilities
    assert (capabilities.max_depth, capabilities.max_children) == (4, 6), "the user's number is default and ceiling"


def test_a_deeper_allow_without_effect_is_told(home: Path) -> None:
    tree(home, {"a": PLAIN, "a/b": "can: {network: {allow: [e.org]}}\n"})
    assert opened(home / "a/b", home).notes == (
        f"{home}/a/b/.agent.yaml:1: can.network.allow has no effect: a deeper file only narrows what {home}/a/.agent.yaml allows",
    )


# ---- the user's and the machine's file


def own(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_users_file_gives_defaults_and_ceilings(home: Path) -> None:
    own(
        paths.user_config(),
        "agent: assistant\nbudget: {turns: 7}\ncan: {network: {allow: ['127.0.0.1:9'], deny: [d.org]}, env: [LANG]}\n",
    )
    tree(home, {"a": "budget: {turns: 50}\ncan: {network: {allow: [d.org, e.org]}}\n"})
    binding = opened(home / "a", home).binding
    assert binding.agent == "assistant" and binding.budget["turns"] == 7 and binding.capabilities.env == ("LANG",)
    hosts = ("d.org", "e.org", "127.0.0.1:9", "127.0.0.1:8")
    assert [word(binding, "network", host) for host in hosts] == ["deny", "allow", "allow", "deny"]


def test_the_machines_file_is_a_ceiling_only(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = home / "policy.yaml"
    monkeypatch.setenv("OPAGENT_SYSTEM_POLICY", str(policy))
    own(policy, "budget: {turns: 3}\nsandbox: {level: strict}\ncan: {network: {allow: [e.org], default: deny}, env: [LANG]}\n")
    tree(home, {"a": "agent: librarian\nbudget: {turns: 50}\ncan: {network: {allow: [e.org, x.org]}, env: [LANG, CI]}\n"})
    binding = opened(home / "a", home).binding
    assert binding.budget["turns"] == 3 and binding.sandbox["level"] == "strict" and binding.capabilities.env == ("LANG",)
    assert [word(binding, "network", host) for host in ("e.org", "x.org")] == ["allow", "deny"]
    own(policy, "agent: assistant\n")
    assert f"{policy}:1:1: agent: not in the machine's file" in problems(home / "a", home)


def test_own_files_may_be_links_but_not_anybodys(home: Path) -> None:
    own(home / "dotfiles/config.yaml", "budget: {turns: 7}\n")
    paths.user_config().parent.mkdir(parents=True)
    os.symlink(home / "dotfiles/config.yaml", paths.user_config())
    tree(home, {"a": PLAIN})
    assert opened(home / "a", home).binding.budget["turns"] == 7
    os.chmod(home / "dotfiles/config.yaml", 0o666)
    assert "everybody can write" in problems(home / "a", home)


def test_the_floor_covers_our_own_directories_and_the_conversations(home: Path) -> None:
    tree(home, {"a": "agent: librarian\nconversations: talks\n"})
    binding = opened(home / "a", home).binding
    for kind, path in (("write", "talks/x.md"), ("read", str(paths.state() / "opagent.db")), ("read", str(home / ".ssh/id"))):
        assert word(binding, kind, path) == "deny"
    assert word(binding, "write", "conversations/x.md") == "allow"


# ---- errors after the merge


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("agent: libarian\n", "1:8: agent: no role or runtime 'libarian' (did you mean librarian?)"),
        ("roles: {w: {runtime: asistant}}\n", "1:22: roles.w.runtime: no runtime 'asistant' (did you mean assistant?)"),
        ("can: {agents: {allow: [reviewr]}}\n", "1:24: can.agents.allow.0: no role or runtime 'reviewr'"),
        ("can: {mcp: {ask: ['github/*']}}\n", "can.mcp.ask.0: no tool 'github'"),
        ("agent: silent\nbudget: {tokens: 5k}\n", "2:10: budget.tokens: nothing can count this"),
        ("tests: [{read: .env, is: deny}]\n", "1:9: tests.0: is allow, not deny (built-in default of read)"),
        ("can: {read: {deny: [.env]}}\ntests: [{read: .env, is: allow}]\n", "tests.0: is deny, not allow"),
    ],
)
def test_what_only_the_merge_can_tell(home: Path, text: str, said: str) -> None:
    tree(home, {"a": text})
    assert said in problems(home / "a", home)


def test_names_are_known_from_anywhere_in_the_chain(home: Path) -> None:
    tree(home, {"a": "roles: {w: {runtime: assistant}}\ntools: {github: {command: [x]}}\n"})
    tree(
        home,
        {
            "a/b": "agent: w\ncan:\n  mcp: {allow: ['github/*', 'opagent/*', '*/read']}\n"
            "  agents: {ask: [w, librarian, ../c, 'w*']}\n"
        },
    )
    assert opened(home / "a/b", home).binding.agent == "w"


def test_a_deeper_default_is_an_error_and_a_second_currency_too(home: Path) -> None:
    tree(home, {"a": "budget: {cost: 5 USD}\n", "a/b": "can:\n  read: {default: ask}\nbudget: {cost: 3 EUR}\n"})
    found = problems(home / "a/b", home)
    assert (
        f"a/b/.agent.yaml:2:10: can.read.default: only the outermost file has a default, and that is {home}/a/.agent.yaml"
        in found
    )
    assert "budget.cost: the chain counts in USD" in found


def test_the_problems_of_all_files_come_together(home: Path) -> None:
    tree(home, {"a": "agnet: x\n", "a/b": "roles: 5\n"})
    found = problems(home / "a/b", home).splitlines()
    assert [line.rsplit("/", 1)[1].split(":")[0] for line in found] == [".agent.yaml", ".agent.yaml"]


def test_tests_lines_see_the_chain_and_nothing_else(home: Path) -> None:
    own(paths.user_config(), "can: {network: {deny: [e.org]}, read: {deny: ['**']}}\n")
    own(home / ".agent.yaml", "can: {read: {deny: ['**']}}\n")
    lines = "tests:\n  - {read: docs/x, is: allow}\n  - {network: e.org, is: allow}\n  - {write: .agent.yaml, is: deny}\n"
    lines += "  - {exec: [git, push, origin], is: ask}\n  - {read: ../x, is: deny}\n  - {agents: ./sub, is: allow}\n"
    tree(home, {"a": "can: {network: {allow: [e.org]}, exec: {ask: [[git, push]]}, agents: {allow: [./sub]}}\n" + lines})
    assert opened(home / "a", home)
    tree(home, {"a/b": "can: {network: {deny: [e.org]}}\ntests: [{network: e.org, is: deny}]\n"})
    assert opened(home / "a/b", home), "a parent's lines hold where they stand, not below"


# ---- roles, unbound


def test_another_role_may_be_chosen(home: Path) -> None:
    tree(home, {"a": "agent: librarian\nroles: {w: {runtime: assistant, model: m}}\n"})
    loaded = opened(home / "a", home, agent="w")
    assert (
        loaded.binding.agent == "w"
        and loaded.binding.roles["w"].model == "m"
        and str(loaded.binding.origins["agent"]) == "command line"
    )
    assert opened(home / "a", home, agent="assistant").binding.roles["assistant"].runtime == "assistant"
    with pytest.raises(NotFound, match="did you mean librarian"):
        opened(home / "a", home, agent="librarain")
    assert role(loaded.binding, "librarian", Catalogue()).runtime == "librarian"


def test_a_directory_without_a_file_can_be_opened_once(home: Path) -> None:
    own(paths.user_config(), "roles: {mine: {runtime: assistant, model: m}}\ncan: {network: {deny: [d.org]}}\n")
    (home / "docs/sub").mkdir(parents=True)
    loaded = unbound(str(home / "docs/sub"), "librarian", home=str(home), runtimes=Catalogue())
    assert (loaded.workspace, loaded.focus, loaded.binding.agent) == (str(home / "docs/sub"), "", "librarian")
    assert word(loaded.binding, "network", "d.org") == "deny" and loaded.binding.conversations == "conversations/"
    assert unbound(str(home / "docs"), "mine", home=str(home), runtimes=Catalogue()).binding.roles["mine"].model == "m"
    with pytest.raises(NotFound):
        unbound(str(home / "docs"), "nobody", home=str(home), runtimes=Catalogue())


def test_what_init_writes_is_opened_without_a_question(home: Path) -> None:
    tree(home, {"a": template.text("librarian")})
    loaded = opened(home / "a", home)
    assert loaded.binding.agent == "librarian" and not loaded.facts.needed
    assert word(loaded.binding, "read", "x/.env.local") == "deny"
    assert decide(loaded.binding.capabilities, "read", ".env").rule.startswith(f"{home}/a/.agent.yaml:")


def test_each_level_costs_as_much_as_the_one_above(home: Path) -> None:
    text = "can: {read: {deny: ['**/.env*']}, exec: {ask: [[git, push]]}}\nbudget: {turns: 50}\ntests: [{read: .env, is: deny}]\n"
    tree(home, {"a": "agent: librarian\n" + text, "a/b": text, "a/b/c": text, "a/b/c/d": text})
    opened(home / "a/b/c/d", home)
    cost = [steps(lambda at=at: opened(home / at, home)) for at in ("a", "a/b", "a/b/c", "a/b/c/d")]  # type: ignore[misc]
    assert cost[3] - cost[2] < 1.3 * (cost[2] - cost[1]) < 1.7 * (cost[1] - cost[0])
