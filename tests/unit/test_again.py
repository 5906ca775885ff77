"""What becomes of tests that failed in a whole run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import again

TEST = """
import pytest
from pathlib import Path
@pytest.mark.parametrize("number", range(6))
def test_steady(number): pass
def test_broken(): assert False
def test_second_time():
    count = Path(__file__).with_suffix(".count")
    count.write_text("x" + (count.read_text() if count.exists() else ""))
    assert len(count.read_text()) != 2
"""
STEADY = [f"test_steady[{number}]" for number in range(6)]


@pytest.mark.parametrize(
    ("names", "status"),
    [(STEADY[:1], 0), (STEADY[:5], 0), (STEADY, 1), ([STEADY[0], "test_broken"], 1), (["test_second_time"], 1), ([], 1)],
)
def test_who_passes_alone_each_time_is_unsteady(
    tmp_path: Path, names: list[str], status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    file, failed = tmp_path / "test_it.py", tmp_path / "lastfailed"
    file.write_text(TEST)
    failed.write_text(json.dumps({f"{file}::{name}": True for name in names}))
    assert again.main(failed) == status
    assert ("unsteady" in capfd.readouterr().out) == (status == 0)


def test_a_run_that_told_nothing_has_failed(tmp_path: Path) -> None:
    assert again.main(tmp_path / "lastfailed") == 1
    (tmp_path / "lastfailed").write_text(json.dumps({"tests/unit/test_x.py": True}))  # it could not be collected
    assert again.main(tmp_path / "lastfailed") == 1
