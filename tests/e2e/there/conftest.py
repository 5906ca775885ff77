"""The same suite for a directory of this machine and for one of another: each module shares its daemons and its server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import isolated
from tests.doubles import places
from tests.doubles.places import Place


@pytest.fixture(autouse=True, scope="module")
def home() -> Iterator[Path]:
    with isolated() as folder:
        yield folder


@pytest.fixture(scope="module", params=places.NAMES)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """With a home of its own: what one left behind must not help the other."""
    with isolated() as folder, places.place(request.param, folder) as found:
        yield found


@pytest.fixture
def docs(place: Place, request: pytest.FixtureRequest) -> Path:
    """A directory of the place, bound to the echo agent, of one test alone."""
    return place.directory(f"{request.node.originalname}/docs")
