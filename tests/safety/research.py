"""Scenarios of a researcher: data, a web that answers, results, and data that must not leave."""

from __future__ import annotations

from tests.safety.scenario import Scenario, asked, denied, done, refused

_DATA = {"data/one.csv": "a,b\n1,2\n", "results/.keep": "", "secrets/patients.csv": "name,{canary}\n"}
_WEB = {"can": {"network": {"allow": ["127.0.0.1:{port}"], "default": "deny"}}}
_SECRET = {"can": {"read": {"deny": ["secrets/"]}, "network": {"allow": ["127.0.0.1:{port}"], "default": "deny"}}}
_SUM = ["python3", "-c", "print(sum(map(int, open('data/one.csv').read().split()[1].split(','))))"]

SCENARIOS = (
    Scenario(
        "research: compute from data",
        (done("run", argv=_SUM, holds="3"), done("write", "results/sum.txt", text="3\n")),
        files=_DATA,
    ),
    Scenario(
        "research: a scratch directory",
        (done("write", "/tmp/scratch.txt", text="x\n"), done("read", "/tmp/scratch.txt", holds="x")),
    ),
    Scenario(
        "research: shared memory",
        (done("run", argv=["python3", "-c", "import multiprocessing as m; v=m.Value('i',7); print(v.value)"], holds="7"),),
    ),
    Scenario("research: sort and unique", (done("run", argv=["sort", "-u", "data/one.csv"], holds="1,2"),), files=_DATA),
    Scenario(
        "research: a server of its own inside",
        (
            done(
                "run",
                argv=[
                    "python3",
                    "-c",
                    "import socket as s; a=s.create_server(('127.0.0.1',0)); b=s.create_connection(a.getsockname()); print('met')",
                ],
                holds="met",
            ),
        ),
    ),
    Scenario("research: an allowed host", (done("fetch", url="http://127.0.0.1:{port}/page", holds="a page"),), binding=_WEB),
    Scenario(
        "research: another port of it", (denied("fetch", url="http://127.0.0.1:{port2}/page", holds="a page"),), binding=_WEB
    ),
    Scenario("research: past the proxy", (denied("connect", host="127.0.0.1", port="{port}"),), binding=_WEB),
    Scenario(
        "research: a host nobody named",
        (denied("fetch", url="http://127.0.0.1:{port}/page", holds="a page"),),
        binding={"can": {"network": {"default": "deny"}}},
    ),
    Scenario(
        "research: the person agrees to a host",
        (asked("fetch", url="http://127.0.0.1:{port}/page", holds="a page"),),
        binding={"can": {"network": {"ask": ["127.0.0.1:{port}"], "default": "deny"}}},
    ),
    Scenario(
        "research: the person refuses a host",
        (refused("fetch", url="http://127.0.0.1:{port}/page", holds="a page"),),
        binding={"can": {"network": {"ask": ["127.0.0.1:{port}"], "default": "deny"}}},
    ),
    Scenario(
        "research: the machine's metadata",
        (denied("fetch", url="http://169.254.169.254/latest/"), denied("connect", host="169.254.169.254", port=80)),
    ),
    Scenario(
        "research: numbers for an address",
        (
            denied("fetch", url="http://2130706433:{port2}/page", holds="a page"),
            denied("fetch", url="http://0x7f.1:{port2}/page", holds="a page"),
        ),
        binding=_WEB,
    ),
    Scenario(
        "research: patients stay here",
        (
            denied("read", "secrets/patients.csv", holds="{canary}"),
            done("fetch", url="http://127.0.0.1:{port}/page", holds="a page"),
        ),
        binding=_SECRET,
        files=_DATA,
    ),
    Scenario(
        "research: patients in an archive",
        (denied("run", argv=["tar", "-cf", "results/all.tar", "secrets/patients.csv"]),),
        binding=_SECRET,
        files=_DATA,
    ),
    Scenario(
        "research: raw data are not changed",
        (done("write", "results/x"), denied("append", "data/one.csv"), denied("delete", "data/one.csv")),
        binding={"can": {"write": {"deny": ["data/"]}}},
        files=_DATA,
    ),
    Scenario(
        "research: a datagram",
        (
            denied(
                "run",
                argv=[
                    "python3",
                    "-c",
                    "import socket as s; x=s.socket(s.AF_INET,s.SOCK_DGRAM); x.connect(('192.0.2.1',53)); x.send(b'q')",
                ],
            ),
        ),
    ),
    Scenario("research: a module for the next Python", (denied("write", "{home}/.local/lib/python3/site-packages/x.pth"),)),
    Scenario(
        "research: raise the own rights",
        (
            denied("run", argv=["unshare", "-Ur", "id"], holds="uid=0"),
            denied("run", argv=["unshare", "-m", "true"]),
        ),
    ),
    Scenario("research: a set-uid program", (done("write", "tool"), denied("chmod", "tool", mode="0o4755"))),
    Scenario(
        "research: other users' files",
        (denied("read", "/etc/shadow"), denied("read", "{outside}/theirs", holds="{canary}"), denied("write", "{outside}/x")),
    ),
)
