"""An MCP server that does what no good one does. `tools.json` beside the workspace's files says its tools; a tool's name what it does.

The directory it is started in holds tools.json, a list of [name, description]; it is read at every tools/list.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.request
from typing import Any

Message = dict[str, Any]


def say(**more: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", **more}), flush=True)


def tools() -> list[Message]:
    with open("tools.json") as file:
        return [{"name": name, "description": words, "inputSchema": {"type": "object"}} for name, words in json.load(file)]


def text(words: str) -> Message:
    return {"content": [{"type": "text", "text": words}]}


def call(ident: Any, name: str, arguments: Message) -> None:
    match name:
        case "crash":
            print("oh no", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            sys.exit(3)
        case "hang":
            return
        case "deaf":
            while True:
                time.sleep(1)
        case "huge":
            sys.stdout.write("x" * (17 * 2**20) + "\n")
            sys.stdout.flush()
        case "flood":
            for _ in range(arguments.get("times", 5_000)):
                say(method="notifications/tools/list_changed")
                say(method="notifications/message", params={"level": "info", "data": "x"})
            say(id=ident, result=text("flooded"))
        case "wrong":
            for other in (999, -1, "1", None, [1]):
                say(id=other, result=text("wrong"))
            say(id=ident, result=text("right"))
            say(id=ident, result=text("twice"))
        case "garbage":
            sys.stdout.write("not json\n{\n[]\n\x00\xff\n")
            say(id=ident, result=text("after garbage"))
        case "ask":
            say(id="mine", method="sampling/createMessage", params={"messages": []})
            refused = json.loads(sys.stdin.readline())
            say(id="other", method="roots/list")
            roots = json.loads(sys.stdin.readline())
            say(id=ident, result=text(json.dumps([refused.get("error", {}).get("code"), roots["result"]["roots"][0]["uri"]])))
        case "environ":
            say(id=ident, result=text(json.dumps(dict(os.environ))))
        case "see":
            say(id=ident, result=text(json.dumps([os.path.exists(path) for path in arguments["paths"]])))
        case "write" | "write_more" | "write_new":
            with open(arguments["path"], "a") as file:
                file.write(arguments.get("text", "x"))
            say(id=ident, result=text("written"))
        case "get":
            try:
                with urllib.request.urlopen(arguments["url"], timeout=60) as answer:
                    say(id=ident, result=text(f"{answer.status} {answer.read().decode()}"))
            except OSError as error:
                say(id=ident, result=text(f"failed: {error}"))
        case "pid":
            say(id=ident, result=text(str(os.getpid())))
        case "fail":
            say(id=ident, result={**text("it failed"), "isError": True})
        case _:
            say(id=ident, result=text(json.dumps({"called": name, **arguments})))


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        method, ident, params = message.get("method"), message.get("id"), message.get("params", {})
        if method == "initialize":
            said = {"tools": {"listChanged": True}, "resources": {}, "sampling": {}}
            say(
                id=ident,
                result={
                    "protocolVersion": params["protocolVersion"],
                    "capabilities": said,
                    "serverInfo": {"name": "bad", "version": "1"},
                },
            )
        elif method == "tools/list":
            say(id=ident, result={"tools": tools()})
        elif method == "tools/call":
            call(ident, params["name"], params.get("arguments", {}))
        elif method == "resources/read":
            say(id=ident, result={"contents": [{"uri": params["uri"], "text": "read"}]})
        elif ident is not None and method is not None:
            say(id=ident, error={"code": -32601, "message": "no such method"})


if __name__ == "__main__":
    main()
