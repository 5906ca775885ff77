"""Where a user's state, configuration and data lie: the XDG base directories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from opagent import paths

WHERE = [
    (paths.state, "OPAGENT_STATE_DIR", "XDG_STATE_HOME", ".local/state"),
    (paths.config, "OPAGENT_CONFIG_DIR", "XDG_CONFIG_HOME", ".config"),
    (paths.data, "OPAGENT_NO_SUCH", "XDG_DATA_HOME", ".local/share"),
]


@pytest.mark.parametrize(("find", "own", "variable", "default"), WHERE)
def test_user_directories(
    find: Callable[[], Path], own: str, variable: str, default: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(own, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, "/somewhere/else")
    assert find() == Path("/somewhere/else/opagent")
    for nothing in ("", "relative"):
        monkeypatch.setenv(variable, nothing)
        assert find() == tmp_path / default / "opagent"
    monkeypatch.delenv(variable)
    assert find() == tmp_path / default / "opagent"


@pytest.mark.parametrize(("find", "own"), [(paths.state, "OPAGENT_STATE_DIR"), (paths.config, "OPAGENT_CONFIG_DIR")])
def test_a_variable_of_our_own_wins(find: Callable[[], Path], own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(own, "/ours")
    assert find() == Path("/ours")
