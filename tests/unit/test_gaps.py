"""What is said to be open at level `landlock`: by the kernel's version, and by what the launch was given."""

from __future__ import annotations

import pytest

from opagent.process.gaps import ALWAYS, FULL, LACKS, gaps, has_sockets, lacking
from opagent.process.profile import SOCKETS, Mount, Network, Profile

BARE = Profile("/w")
PROXIED = Profile("/w", network=Network.PROXY)
TOOLS = Profile("/w", mounts=(Mount("/state/agents/x/tools.sock", f"{SOCKETS}/tools.sock"),))
USUAL = {gap.code for gap in ALWAYS}


def codes(profile: Profile, abi: int, port: int = 0) -> set[str]:
    found = gaps(profile, abi, port)
    assert len({gap.code for gap in found}) == len(found)
    return {gap.code for gap in found}


def test_a_new_kernel_and_nothing_but_files() -> None:
    assert codes(BARE, FULL) == codes(BARE, 99) == USUAL


@pytest.mark.parametrize(
    ("abi", "more"), [(1, {"truncate", "signals"}), (2, {"truncate", "signals"}), (3, {"signals"}), (5, {"signals"})]
)
def test_older_kernels(abi: int, more: set[str]) -> None:
    assert codes(BARE, abi) == USUAL | more


def test_connections() -> None:
    assert codes(PROXIED, FULL) == USUAL  # without a port there is no way to the proxy, and so none at all
    assert codes(PROXIED, FULL, 3128) == codes(BARE, FULL) | {"network"}
    assert "past the proxy" in gaps(PROXIED, 3, 3128)[-1].sentence
    assert "past the proxy" not in gaps(PROXIED, 4, 3128)[-1].sentence


def test_sockets_of_its_own() -> None:
    assert not has_sockets(BARE)
    assert not has_sockets(Profile("/w", mounts=(Mount("/state", "/run/opagent-other"),)))
    assert has_sockets(TOOLS)
    assert codes(TOOLS, FULL) == USUAL | {"sockets"}
    assert codes(TOOLS, 5) == USUAL | {"sockets", "abstract", "signals"}


def test_what_a_version_lacks() -> None:
    assert lacking(FULL) == lacking(7) == ()
    assert len(lacking(1)) == len(LACKS)
    assert lacking(5) == (LACKS[6],)
