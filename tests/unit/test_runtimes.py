"""Every folder of `runtimes/` is a runtime: described by its schema, explained by a README, started without a shell."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from opagent.packages import catalog, description

RUNTIMES = Path(__file__).resolve().parents[2] / "runtimes"
FOLDERS = sorted(path for path in RUNTIMES.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))
SHELLS = {"sh", "bash", "dash", "zsh", "fish", "ksh", "env", "xargs", "sudo", "npx", "uvx"}


def _entry(folder: Path) -> catalog.Entry:
    return catalog.Entry(folder.name, folder, "bundled")


def test_there_are_runtimes_and_nothing_else() -> None:
    assert {"echo", "echo-node", "librarian", "opencode", "claude", "codex", "gemini", "qwen", "pi", "copilot"} <= {
        folder.name for folder in FOLDERS
    }
    assert [path for path in RUNTIMES.iterdir() if path.is_file()] == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_runtime_is_described_and_explained(folder: Path) -> None:
    spec = catalog.read(_entry(folder))
    assert spec.name == folder.name
    assert spec.about
    assert Path(spec.command[0]).name not in SHELLS
    assert not any(re.search(r"[;&|<>`$]", word) for word in spec.command)
    assert not any(re.search("KEY|TOKEN|SECRET|PASSWORD", name) for name in spec.env)
    readme = (folder / "README.md").read_text("utf-8")
    assert readme.startswith("# ")
    for word in ("install", "sign in", "tried"):
        assert word in readme.lower(), word


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_editors_that_read_plain_yaml_agree_with_the_schema(folder: Path) -> None:
    """BaseLoader keeps scalars as text, as YAML 1.2 editors keep versions and dates; booleans are theirs to read."""
    data = yaml.load((folder / "runtime.yaml").read_text("utf-8"), Loader=yaml.BaseLoader)
    for section in ("needs", "quirks"):
        for key, value in data.get(section, {}).items():
            data[section][key] = {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value
    jsonschema.Draft7Validator(description.schema()).validate(data)


@pytest.mark.parametrize("folder", [f for f in FOLDERS if "npm" in catalog.read(_entry(f)).install], ids=lambda f: f.name)
def test_what_comes_from_a_registry_has_one_version_and_says_what_was_tried(folder: Path) -> None:
    spec, readme = catalog.read(_entry(folder)), (folder / "README.md").read_text("utf-8")
    assert re.fullmatch(r"[0-9]+(\.[0-9]+){2}", spec.install["version"])
    assert catalog.install_command(spec) in readme
    assert "Not tried live here" in readme
    assert spec.signin
    assert spec.network
    assert spec.state
    assert spec.model["key"] in spec.pass_env


def test_the_schema_is_a_schema_and_explains_every_key() -> None:
    schema = json.loads((Path(description.__file__).parent / "runtime.schema.json").read_text("utf-8"))
    jsonschema.Draft7Validator.check_schema(schema)
    for name, section in schema["properties"].items():
        assert section.get("description"), name
        for key, value in section.get("properties", {}).items():
            assert value.get("description") or "$ref" in value, f"{name}.{key}"
