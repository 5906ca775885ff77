"""The documentation is true: the reference is what the code says, links lead somewhere, named commands and keys exist."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from opagent import control, paths, yamlfile
from opagent.binding import schema as binding_schema
from opagent.cli.command import EXITS, Group
from opagent.cli.main import COMMANDS
from opagent.cli.run import root
from opagent.errors import BY_CODE
from opagent.model import Kind
from opagent.packages import description

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from docpages import commandline, pages, tables, words  # noqa: E402

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")] + sorted((ROOT / "docs").rglob("*.md"))
FENCE = re.compile(r"^(`{3,})(\w*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """The page without its code blocks and comments."""
    return re.sub(r"<!--.*?-->", "", FENCE.sub("", page.read_text("utf-8")), flags=re.DOTALL)


def headings(page: Path) -> list[str]:
    return re.findall(r"^#{1,6} (.*)$", prose(page), re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them: small letters, no signs, spaces to hyphens, a number behind what comes again."""
    found: dict[str, int] = {}
    for heading in headings(page):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {slug if not number else f"{slug}-{number}" for slug, count in found.items() for number in range(count + 1)}


def code_headings(name: str) -> set[str]:
    return {heading.strip("`") for heading in headings(ROOT / "docs" / "reference" / name)}


# ---- the reference is what the code says ---------------------------------------------------------------------------------


def test_every_generated_page_is_what_the_code_says() -> None:
    assert [name_of(path) for path in pages.stale()] == [], "run scripts/docs"


def test_a_page_that_was_changed_by_hand_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "WHOLE", {"docs/reference/errors.md": lambda: tables.errors() + "more\n"})
    monkeypatch.setattr(pages, "PARTS", {})
    assert [name_of(path) for path in pages.stale()] == ["docs/reference/errors.md"]


def subcommands() -> Iterator[tuple[str, click.Command]]:
    top = root()
    context = click.Context(top)
    for name in COMMANDS:
        command = top.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, Group):
            yield from ((f"{name} {sub}", found) for sub, found in command.commands.items())


def test_every_command_has_its_heading() -> None:
    assert {f"opagent {name}" for name, _ in subcommands()} <= code_headings("command-line.md")


def test_every_option_stands_on_the_page_of_commands() -> None:
    page = (ROOT / "docs/reference/command-line.md").read_text("utf-8")
    for name, command in subcommands():
        section = page.partition(f" `opagent {name}`\n")[2].partition("\n## ")[0]
        for option in (
            option for one in command.params if isinstance(one, click.Option) for option in (*one.opts, *one.secondary_opts)
        ):
            assert f"`{option}" in (section + page[: page.index("## `opagent open`")]), f"{name} {option}"


def test_the_options_of_every_command_are_those_that_are_described() -> None:
    hidden = {one.opts[-1] for _, command in subcommands() for one in command.params if getattr(one, "hidden", False)}
    assert hidden == set(commandline.EVERYWHERE)


def names_in(schema: Any) -> set[str]:
    """Every property name anywhere in a schema."""
    if isinstance(schema, list):
        return {name for each in schema for name in names_in(each)}
    if not isinstance(schema, dict):
        return set()
    own = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
    return own | {name for each in schema.values() for name in names_in(each)}


@pytest.mark.parametrize(
    ("page", "schema"), [("agent-yaml.md", binding_schema.agent_schema()), ("runtime-yaml.md", description.schema())]
)
def test_every_key_has_its_heading(page: str, schema: dict[str, Any]) -> None:
    described = {heading.rpartition(".")[2] for heading in code_headings(page)}
    assert names_in(schema) <= described


def test_every_error_code_and_exit_code_has_its_heading() -> None:
    found = code_headings("errors.md")
    assert set(BY_CODE) <= found
    assert {f"Exit code {number}" for number in EXITS} <= found
    assert {error.exit for error in BY_CODE.values()} <= set(EXITS)


def test_the_drawn_tree_of_errors_is_the_tree() -> None:
    drawn = re.findall(r"(\w+) +([a-z_]+) +(\d+)$", tables.errors().partition("## Error codes")[2], re.MULTILINE)
    assert sorted(drawn) == sorted((error.__name__, name, str(error.exit)) for name, error in BY_CODE.items())


def test_every_variable_method_kind_and_runtime_has_its_heading() -> None:
    assert set(paths.ENVIRONMENT) <= code_headings("environment.md")
    assert set(control.METHODS) <= code_headings("control-protocol.md")
    assert {kind.value for kind in Kind} <= code_headings("events.md")
    assert {folder.parent.name for folder in (ROOT / "runtimes").glob("*/runtime.yaml")} <= code_headings("runtimes.md")


def test_every_variable_that_the_code_reads_is_in_the_table() -> None:
    read = {
        name
        for file in (ROOT / "opagent").rglob("*.py")
        for name in re.findall(r"environ(?:\.get\(|\[)\"([A-Z_]+)\"", file.read_text("utf-8"))
    }
    foreign = {"XDG_RUNTIME_DIR", "TERM", "PATH", "HOME", "SHELL"}
    assert read - foreign <= set(paths.ENVIRONMENT)


def test_every_place_of_paths_is_on_the_page_of_files() -> None:
    places = {
        name
        for name, function in inspect.getmembers(paths, inspect.isfunction)
        if function.__module__ == paths.__name__
        and not name.startswith("_")
        and inspect.signature(function).return_annotation == "Path"
    }
    assert places <= {*words.FILES, *words.BESIDE}


def test_every_dependency_has_its_heading() -> None:
    assert set(tables.dependencies()) <= {heading.strip("`") for heading in headings(ROOT / "docs/design/dependencies.md")}


# ---- pages lead somewhere ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(file), target


def test_a_wrong_link_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `two`: three\n\n## Again\n\n## Again\n\n```sh\n# no heading\n```\n")
    assert anchors(page) == {"one-two-three", "again", "again-1"}


def test_every_page_is_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    todo = [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md" or not page.is_file():
            continue
        seen.add(page)
        links = (target.partition("#")[0] for target in LINK.findall(prose(page)) if "://" not in target)
        todo += [(page.parent / link).resolve() for link in links if link]
    assert set(PAGES) <= seen


# ---- what pages name exists ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_and_option_that_a_page_names_exists(page: Path) -> None:
    known = dict(subcommands())
    text = page.read_text("utf-8")
    for line in re.findall(r"(?:^|[`(/ ])opagent (?=[a-z-])([^`\n#]*)", text, re.MULTILINE):
        named = line.split()
        if "." in named[0] or named[0].endswith(("/", ",")):
            continue
        group = " ".join(named[:2])
        command = known.get(group) or known.get(named[0])
        if named[0].startswith("--"):
            continue
        in_code = f"`opagent {named[0]}" in text or f"opagent {named[0]}" in "".join(body for _, _, body in FENCE.findall(text))
        assert command is not None or not in_code, line
        options = {option for one in getattr(command, "params", []) for option in (*one.opts, *one.secondary_opts)} | {
            "--help",
            "--version",
        }
        for word in re.findall(r"(?<=\s)--[a-z-]+", line):
            assert word in options, line


def blocks(language: str) -> list[str]:
    return [body for page in PAGES for _, kind, body in FENCE.findall(page.read_text("utf-8")) if kind == language]


@pytest.mark.parametrize("text", blocks("yaml"), ids=lambda text: text.split("\n")[1])
def test_every_example_of_a_file_can_be_used(text: str) -> None:
    if re.search(r"^name:", text, re.MULTILINE):
        spec = description.read(text.encode(), Path("/runtimes/mine"), "user")
        assert spec.name == "mine"
    else:
        assert binding_schema.check(yamlfile.load(text.encode(), "example"), "example")["version"] == 1


def test_examples_of_json_are_json() -> None:
    for text in blocks("json"):
        json.loads(text)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_names_a_machine_or_a_registry(page: Path) -> None:
    text = page.read_text("utf-8")
    assert not re.search(r"/root/|://registry\.|localhost:\d", text)
    assert "TODO" not in text
