"""The proxy as a process of its own: what passes, what is refused, what is put in; real sockets, a name server that lies."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from opagent.process import forward, relay
from opagent.process.httpbody import HEAD_LIMIT
from tests.doubles import proxied, webserver
from tests.doubles.patience import until
from tests.doubles.proxied import TOKEN, Proxied, ask, rest
from tests.doubles.webserver import Server

KEY = "r3al-k3y/of=the+model"


@pytest.fixture
def web() -> Iterator[Server]:
    with webserver.running() as server:
        yield server


@pytest.fixture
def proxy(home: Path) -> Iterator[Proxied]:
    with proxied.running(home.parent) as process:
        yield process


def service(server: Server, **more: Any) -> dict[str, Any]:
    return {"MODEL_KEY": {"host": "127.0.0.1", "port": server.port, "secret": KEY, "path": "", "tls": False, "usage": [], **more}}


def get(url: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {url} HTTP/1.1", "Host: other.example", *headers, "", ""]).encode()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_a_plain_request_goes_on_with_our_host_header_and_ends_after_one_answer(proxy: Proxied, web: Server) -> None:
    path = proxy.agent()
    answer = ask(
        path, get(f"http://127.0.0.1:{web.port}/a?b=c", "Connection: keep-alive, X-Hop", "X-Hop: 1", "Proxy-Authorization: x")
    )
    assert answer.endswith(b"hello from /a?b=c")
    assert b"connection: close" in answer
    method, target, headers, _ = web.heads[0]
    assert (method, target, headers["host"]) == ("GET", "/a?b=c", f"127.0.0.1:{web.port}")
    assert headers.keys().isdisjoint({"x-hop", "proxy-authorization"})
    asked = proxy.told("may")
    assert {name: asked[name] for name in ("agent", "way", "host", "port")} == {
        "agent": "x1", "way": "http", "host": "127.0.0.1", "port": web.port,
    }  # fmt: skip
    ended = proxy.told("end", id=asked["id"])
    assert ended["error"] == ""
    assert ended["received"] >= len("hello from /a?b=c")
    assert "/a" not in str(proxy.said), "never a path"


def test_a_tunnel_carries_bytes_both_ways_and_its_halves_end_apart(proxy: Proxied) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as client:

        def echo() -> None:
            with listener.accept()[0] as upstream:
                upstream.sendall(rest(upstream)[::-1])

        server = threading.Thread(target=echo)
        server.start()
        client.connect(proxy.agent())
        client.sendall(f"CONNECT 127.0.0.1:{listener.getsockname()[1]} HTTP/1.1\r\n\r\n".encode())
        assert status(client.recv(1000)) == 200
        client.sendall(b"abc" * 100_000)
        client.shutdown(socket.SHUT_WR)
        assert rest(client) == b"cba" * 100_000
        server.join()
    ended = proxy.told("end")
    assert (ended["sent"], ended["received"], ended["error"]) == (300_000, 300_000, "")


def test_what_is_denied_never_leaves(proxy: Proxied, web: Server) -> None:
    proxy.allow = lambda asked: {"allow": False, "why": "denied by /x/.agent.yaml:7", "named": []}
    answer = ask(proxy.agent(), get(f"http://127.0.0.1:{web.port}/"))
    assert status(answer) == 403
    assert b"denied by /x/.agent.yaml:7" in answer
    assert not web.heads


@pytest.mark.parametrize(
    "head",
    [
        b"CONNECT 0x7f000001:443 HTTP/1.1", b"CONNECT 017700000001:443 HTTP/1.1", b"CONNECT 2130706433:443 HTTP/1.1",
        b"CONNECT 127.1:443 HTTP/1.1", b"CONNECT good.example@evil.example:443 HTTP/1.1", b"CONNECT [fe80::1%eth0]:443 HTTP/1.1",
        b"CONNECT good.example:0x1bb HTTP/1.1", b"CONNECT good.example: HTTP/1.1", b"CONNECT good..example:443 HTTP/1.1",
        b"CONNECT good.example:443:80 HTTP/1.1", b"GET http://good.example@evil.example/ HTTP/1.1", b"GET file:///etc/passwd HTTP/1.1",
        b"GET https://good.example/ HTTP/1.1", b"GET / HTTP/1.1", b"GARBAGE", b"GET http://good.example/ HTTP/2", b"GET  http://a/ HTTP/1.1",
        b"GET http://good.example/\x00 HTTP/1.1", b"GET http://good.example/ HTTP/1.1\r\n folded: line",
        b"GET http://good.example/ HTTP/1.1\nHost: b", b"GET http://good.example/ HTTP/1.1\r\nX : y", b"GET http:\\\\a/ HTTP/1.1",
        b"POST http://good.example/ HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6",
        b"POST http://good.example/ HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        b"POST http://good.example/ HTTP/1.1\r\nTransfer-Encoding: xchunked", b"POST http://good.example/ HTTP/1.1\r\nContent-Length: +5",
        b"POST http://good.example/ HTTP/1.0\r\nTransfer-Encoding: chunked",
    ],
)  # fmt: skip
def test_what_has_two_readings_is_refused_before_anybody_is_asked(proxy: Proxied, head: bytes) -> None:
    assert status(ask(proxy.agent(), head + b"\r\n\r\n")) == 400
    proxy.told("deny", agent="x1")
    assert not [each for each in proxy.said if each["op"] == "may"]


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("GOOD.Example.:443", "good.example"), ("b\u00fccher.example", "xn--bcher-kva.example"), ("[::FFFF:10.0.0.1]:443", "10.0.0.1"),
        ("[2606:4700:0:0::1]:443", "2606:4700::1"), ("good\u3002example", "good.example"),
    ],
)  # fmt: skip
def test_a_name_is_asked_about_in_one_form(proxy: Proxied, target: str, host: str) -> None:
    proxy.allow = lambda asked: {"allow": False, "why": "no", "named": []}
    ask(proxy.agent(), f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())
    assert proxy.told("may")["host"] == host


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.64.0.1", "0.0.0.0", "::1", "::ffff:127.0.0.1", "fd00::1", "fe80::1",
     "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1", "255.255.255.255"],
)  # fmt: skip
def test_an_allowed_name_that_leads_to_a_private_address_is_refused(home: Path, address: str) -> None:
    with proxied.running(home.parent, {"good.example": [[address]]}) as proxy:
        proxy.allow = lambda asked: {"allow": True, "why": "", "named": []}
        answer = ask(proxy.agent(), b"CONNECT good.example:443 HTTP/1.1\r\n\r\n")
        assert status(answer) == 403
        assert b"private address" in answer
        assert "private" in proxy.told("end")["error"]


def test_a_name_is_looked_up_once_and_what_was_checked_is_dialed(home: Path, web: Server) -> None:
    """The second answer of the name server is never asked for; the first one has a private address among good ones."""
    names = {"good.example": [["169.254.169.254", "127.0.0.1"], ["169.254.169.254"]]}
    with proxied.running(home.parent, names) as proxy:
        proxy.allow = lambda asked: {"allow": True, "why": "", "named": [f"127.0.0.1:{asked['port']}"]}
        path = proxy.agent()
        assert status(ask(path, get(f"http://good.example:{web.port}/"))) == 200
        assert web.heads[0][2]["host"] == f"good.example:{web.port}"
        assert status(ask(path, get(f"http://good.example:{web.port}/"))) == 403


def test_a_redirect_is_a_new_request(home: Path) -> None:
    def elsewhere(handler: Any, _: bytes) -> None:
        handler.say(b"", status=302, location="http://127.0.0.1:1/")

    with webserver.running(elsewhere) as web, proxied.running(home.parent) as proxy:
        answer = ask(proxy.agent(), get(f"http://127.0.0.1:{web.port}/"))
        assert status(answer) == 302
        assert len([each for each in proxy.said if each["op"] == "may"]) == 1


def test_a_second_request_on_the_same_connection_is_not_heard(proxy: Proxied, web: Server) -> None:
    two = get(f"http://127.0.0.1:{web.port}/one") + get(f"http://127.0.0.1:{web.port}/two")
    body = (
        f"POST http://127.0.0.1:{web.port}/three HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n".encode()
    )
    path = proxy.agent()
    assert ask(path, two).endswith(b"hello from /one")
    assert ask(path, body + get(f"http://127.0.0.1:{web.port}/four")).endswith(b"hello from /three")
    assert [(head[1], head[3]) for head in web.heads] == [("/one", b""), ("/three", b"abc")]


def test_a_head_has_a_limit_and_a_time(proxy: Proxied, monkeypatch: pytest.MonkeyPatch) -> None:
    path = proxy.agent()
    assert status(ask(path, b"GET http://a.example/ HTTP/1.1\r\nX: " + b"a" * HEAD_LIMIT + b"\r\n\r\n")) == 431
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(path)
        slow.sendall(b"GET http://a.example/ HTTP/1.1\r\nX: ")  # and never the rest
        assert status(rest(slow)) == 408
    assert "within 10 s" in proxy.told("deny", agent="x1", why=f"the head did not come within {forward.HEAD_WITHIN:.0f} s")["why"]


def test_one_agent_has_so_many_connections_and_the_other_still_gets_through(proxy: Proxied, web: Server) -> None:
    path, other = proxy.agent(), proxy.agent("x2", "opagent-fedcba9876543210")
    held = [socket.socket(socket.AF_UNIX) for _ in range(forward.MOST_OPEN)]
    try:
        for each in held:
            each.connect(path)
            each.sendall(b"GET ")
        assert until(lambda: status(ask(path, get(f"http://127.0.0.1:{web.port}/"))) == 503)
        assert status(ask(other, get(f"http://127.0.0.1:{web.port}/"))) == 200
    finally:
        for each in held:
            each.close()
    assert until(lambda: status(ask(path, get(f"http://127.0.0.1:{web.port}/"))) == 200)


def test_a_question_holds_the_request_and_is_taken_back_when_the_agent_leaves(proxy: Proxied, web: Server) -> None:
    proxy.allow = lambda asked: None
    path = proxy.agent()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(get(f"http://127.0.0.1:{web.port}/"))
        asked = proxy.told("may")
        proxy.send(op="verdict", id=asked["id"], allow=True, why="", named=["*"])
        assert status(rest(client)) == 200
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"CONNECT other.example:443 HTTP/1.1\r\n\r\n")
        asked = proxy.told("may", host="other.example")
    proxy.told("gone", id=asked["id"])


def test_the_secret_is_put_in_for_its_host_only(proxy: Proxied, web: Server) -> None:
    path = proxy.agent(services=service(web))
    answer = ask(path, get("/-/MODEL_KEY/v1/chat?x=1", f"Authorization: Bearer {TOKEN}", "Accept-Encoding: gzip"))
    assert answer.endswith(b"hello from /v1/chat?x=1")
    assert web.heads[0][2]["authorization"] == f"Bearer {KEY}"
    assert web.heads[0][2]["accept-encoding"] == "identity"
    basic = base64.b64encode(f"me:{TOKEN}".encode()).decode()
    ask(path, get("/-/MODEL_KEY/", f"Authorization: Basic {basic}"))
    assert base64.b64decode(web.heads[1][2]["authorization"].split()[1]).decode() == f"me:{KEY}"
    ask(path, get(f"http://127.0.0.1:{web.port}/", f"X-Api-Key: {TOKEN}"))
    assert web.heads[2][2]["x-api-key"] == TOKEN, "on another way the agent's own token goes on"
    assert status(ask(path, get("/-/MODEL_KEY/", "X-Api-Key: something"))) == 401
    assert status(ask(path, get("/-/OTHER/", f"X-Api-Key: {TOKEN}"))) == 404
    assert len(web.heads) == 3
    assert KEY not in str(proxy.said)


def test_where_no_socket_names_the_agent_its_token_does(proxy: Proxied, web: Server) -> None:
    proxy.agent(services=service(web))

    def over_tcp(data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", proxy.port)) as client:
            client.sendall(data)
            return rest(client)

    assert status(over_tcp(get(f"http://127.0.0.1:{web.port}/"))) == 407
    assert status(over_tcp(get("/-/MODEL_KEY/", "Authorization: Bearer opagent-ffffffffffffffff"))) == 407
    basic = base64.b64encode(f"opagent:{TOKEN}".encode()).decode()
    assert status(over_tcp(get(f"http://127.0.0.1:{web.port}/", f"Proxy-Authorization: Basic {basic}"))) == 200
    assert over_tcp(get("/-/MODEL_KEY/x", f"X-Api-Key: {TOKEN}")).endswith(b"hello from /x")
    assert proxy.told("may", service="MODEL_KEY")["agent"] == "x1"


def test_tls_is_spoken_and_checked_by_the_proxy(home: Path) -> None:
    with webserver.running(tls=home) as web:
        request = get("/-/MODEL_KEY/v1", f"Authorization: Bearer {TOKEN}")
        with proxied.running(home.parent, SSL_CERT_FILE=str(home / "ca.pem")) as proxy:
            answer = ask(proxy.agent(services=service(web, tls=True, path="/base")), request)
            assert answer.endswith(b"hello from /base/v1")
            assert web.heads[0][2]["authorization"] == f"Bearer {KEY}"
        with proxied.running(home.parent) as proxy:  # that does not know the authority
            assert status(ask(proxy.agent(services=service(web, tls=True)), request)) == 502
        assert len(web.heads) == 1


@pytest.mark.parametrize("streamed", [False, True])
def test_the_usage_of_an_answer_is_read_as_it_passes(home: Path, streamed: bool) -> None:
    whole = b'{"usage": {"input_tokens": 11, "output_tokens": 7}}'
    events = (
        b'event: message_start\ndata: {"type": "message_start", "message": {"usage": {"input_tokens": 11, "output_tokens": 1}}}\n\n',
        b'event: x\ndata: {"delta": "hi"}\n\nevent: message_delta\ndata: {"usage": {"output', b'_tokens": 7}}\n\n',
    )  # fmt: skip

    def answer(handler: Any, _: bytes) -> None:
        handler.stream(events) if streamed else handler.say(whole, "application/json")

    with webserver.running(answer) as web, proxied.running(home.parent) as proxy:
        usage = ["usage.input_tokens", "usage.output_tokens"]
        got = ask(proxy.agent(services=service(web, usage=usage)), get("/-/MODEL_KEY/", f"X-Api-Key: {TOKEN}"))
        assert (b"message_delta" if streamed else whole) in got
        told = proxy.told("usage")
        assert (told["input"], told["output"], told["status"], told["service"]) == (11, 7, 200, "MODEL_KEY")


def test_an_agent_that_is_refused_gets_no_further_until_it_may_again(proxy: Proxied, web: Server) -> None:
    path = proxy.agent()
    proxy.send(op="refuse", agent="x1", why="the budget is used up")
    assert until(lambda: b"the budget is used up" in ask(path, get(f"http://127.0.0.1:{web.port}/")))
    proxy.send(op="refuse", agent="x1", why="")
    assert until(lambda: status(ask(path, get(f"http://127.0.0.1:{web.port}/"))) == 200)


def test_without_the_daemon_the_proxy_ends_and_with_it_every_connection(home: Path) -> None:
    with (
        proxied.running(home.parent) as proxy,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX) as client,
    ):
        client.connect(proxy.agent())
        client.sendall(f"CONNECT 127.0.0.1:{listener.getsockname()[1]} HTTP/1.1\r\n\r\n".encode())
        assert status(client.recv(1000)) == 200
        assert proxy.process.stdin is not None
        proxy.process.stdin.close()
        assert rest(client) == b""
        assert proxy.process.wait() == 0


CLIENT = """
import json, os, socket, subprocess, sys, urllib.request
def show(action):
    try: return action()
    except Exception as error: return type(error).__name__
def direct(host, port): socket.create_connection((host, port), 2).close(); return "connected"
url = sys.argv[1]
print(json.dumps({
    "url": show(lambda: urllib.request.urlopen(url, timeout=30).read().decode()),
    "curl": subprocess.run(["curl", "-s", url], capture_output=True, text=True).stdout,
    "past it": show(lambda: direct("127.0.0.1", int(sys.argv[2]))),
    "name": show(lambda: socket.getaddrinfo("example.com", 80)),
    "pid": os.getpid(), "parent": os.getppid(), "stdin": sys.stdin.read(),
}))
sys.exit(7)
"""


@pytest.mark.skipif(not Path("/usr/bin/bwrap").exists(), reason="no bubblewrap")
def test_the_relay_leads_out_of_a_network_of_its_own_and_becomes_the_agent(proxy: Proxied, web: Server, home: Path) -> None:
    path = proxy.agent()
    python = os.path.realpath(sys.executable)
    door = f"http://127.0.0.1:{relay.PORT}"
    inside = [python, "-I", "-S", relay.__file__, path, python, "-c", CLIENT, f"http://127.0.0.1:{web.port}/x", str(web.port)]
    argv = ["/usr/bin/bwrap", "--unshare-user", "--unshare-pid", "--unshare-net", "--die-with-parent", "--bind", "/", "/"]
    argv += ["--proc", "/proc", "--dev", "/dev", "--"]
    env = {"PATH": "/usr/bin:/bin", "http_proxy": door, "HTTP_PROXY": door}
    done = subprocess.run([*argv, *inside], input="typed", capture_output=True, text=True, env=env)
    assert done.returncode == 7, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["url"], seen["curl"]) == ("hello from /x", "hello from /x")
    assert (seen["past it"], seen["name"]) == ("ConnectionRefusedError", "gaierror")
    assert (seen["pid"], seen["parent"], seen["stdin"]) == (2, 1, "typed"), "it is the process that was started"
    until(lambda: not [each for each in psutil.process_iter() if relay.__file__ in _words(each)])


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
