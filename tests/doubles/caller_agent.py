"""An agent that does with the network what the prompt says, a line each, and tells what came of it:

get URL [NAME: VALUE]     as any program that looks at the proxy's variables
proxied URL               the same, whatever the variables take out
direct HOST PORT          a connection past every proxy
model PATH                a request to its model, by MODEL_BASE_URL and MODEL_KEY
env NAME                  a variable of its environment
clock URL                 seconds of one request, and how many bytes it gave
many N URL                N requests at a time
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def get(url: str, **headers: str) -> str:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
            return f"{answer.status} {answer.read()[:300].decode()}"
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read()[:300].decode()}"
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__} {error}"


def direct(host: str, port: str) -> str:
    try:
        socket.create_connection((host, int(port)), 5).close()
    except OSError as error:
        return type(error).__name__
    return "connected"


def do(line: str) -> str:
    verb, _, rest = line.partition(" ")
    match verb:
        case "get":
            url, _, header = rest.partition(" ")
            name, _, value = header.partition(": ")
            return get(url, **({name: value} if name else {}))
        case "proxied":
            for name in ("no_proxy", "NO_PROXY"):
                os.environ.pop(name, None)
            return get(rest)
        case "clock":
            return clock(rest)
        case "direct":
            return direct(*rest.split())
        case "model":
            return get(os.environ["MODEL_BASE_URL"] + rest, Authorization="Bearer " + os.environ["MODEL_KEY"])
        case "env":
            return os.environ.get(rest, "(not set)")
        case "many":
            count, _, url = rest.partition(" ")
            with ThreadPoolExecutor(int(count)) as pool:
                return "; ".join(pool.map(get, [url] * int(count)))
    return "?"


def clock(url: str) -> str:
    begun = time.perf_counter()
    with urllib.request.urlopen(url, timeout=60) as answer:
        size = 0
        while data := answer.read(1 << 18):
            size += len(data)
    return json.dumps([time.perf_counter() - begun, size])


def say(**message: Any) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        match message.get("method"):
            case "initialize":
                say(id=message["id"], result={"protocolVersion": 1, "agentCapabilities": {}})
            case "session/new":
                say(id=message["id"], result={"sessionId": "caller"})
            case "session/prompt":
                text = message["params"]["prompt"][-1]["text"]
                answer = "\n".join(map(do, text.splitlines()))
                content = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": answer}}
                say(method="session/update", params={"sessionId": "caller", "update": content})
                say(id=message["id"], result={"stopReason": "end_turn"})


if __name__ == "__main__":
    main()
