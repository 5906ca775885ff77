"""An agent with a model: a small loop over chat completions with three tools; it leaves a process behind when it is told to run one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from typing import Any

STATE = os.path.join(os.environ["HOME"], ".modelled")
TOOLS = {"write": ("path", "content"), "shell": ("command",)}
sessions: dict[str, list[dict[str, Any]]] = {}
servers: dict[str, subprocess.Popen[str]] = {}
waiting: dict[str, Any] = {}
cancelled = threading.Event()
lock = threading.Lock()
total = [0, 0]
settings = open(os.path.join(STATE, "settings")).read()  # noqa: SIM115
assert settings == "key for " + os.environ["MODEL_EXTRA"].removeprefix("at "), settings


def send(message: dict[str, Any]) -> None:
    with lock:
        print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def asked(session: str, title: str) -> bool:
    event, box = threading.Event(), []
    waiting["p"] = lambda message: (box.append(message), event.set())
    options = [{"optionId": "y", "name": "Yes", "kind": "allow_once"}, {"optionId": "n", "name": "No", "kind": "reject_once"}]
    send({"id": "p", "method": "session/request_permission",
          "params": {"sessionId": session, "toolCall": {"toolCallId": "t", "title": title}, "options": options}})  # fmt: skip
    event.wait()
    return bool(box[0]["result"]["outcome"].get("optionId") == "y")


def mcp(server: subprocess.Popen[str], method: str, ident: int | None = None, **params: Any) -> Any:
    body = {"jsonrpc": "2.0", "method": method, "params": params} | ({} if ident is None else {"id": ident})
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(json.dumps(body) + "\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())["result"] if ident is not None else None


def started(session: str, wanted: list[dict[str, Any]]) -> None:
    for one in wanted:
        pipe = subprocess.PIPE
        servers[session] = subprocess.Popen([one["command"], *one["args"]], stdin=pipe, stdout=pipe, text=True)
        mcp(servers[session], "initialize", 1)
        mcp(servers[session], "notifications/initialized")
        assert mcp(servers[session], "tools/list", 2)["tools"][0]["name"] == "leave_a_mark"


def think(session: str) -> dict[str, Any]:
    names = {**TOOLS, **({"probe__leave_a_mark": ()} if session in servers else {})}
    tools = [{"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {one: {"type": "string"} for one in needs}}}}
             for name, needs in names.items()]  # fmt: skip
    body = json.dumps({"messages": sessions[session], "tools": tools, "stream": True}).encode()
    request = urllib.request.Request(os.environ["MODEL_URL"] + "/chat/completions", body, {"content-type": "application/json"})
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    with urllib.request.urlopen(request) as response:
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if event.get("usage"):
                total[0] += event["usage"]["prompt_tokens"]
                total[1] += event["usage"]["completion_tokens"]
            for choice in event["choices"]:
                message["tool_calls"] = choice["delta"].get("tool_calls") or message.get("tool_calls") or []
                if text := choice["delta"].get("content"):
                    message["content"] += text
                    content = {"type": "text", "text": text}
                    update = {"sessionUpdate": "agent_message_chunk", "content": content}
                    send({"method": "session/update", "params": {"sessionId": session, "update": update}})
            if cancelled.is_set():
                break
    return message


def use(session: str, name: str, given: dict[str, str]) -> str:
    if name == "probe__leave_a_mark":
        return str(mcp(servers[session], "tools/call", 3, name="leave_a_mark"))
    if not asked(session, f"{name} {given}"):
        return "refused"
    if name == "write":
        with open(given["path"], "w") as file:
            file.write(given["content"])
    else:
        subprocess.Popen(["/bin/sh", "-c", given["command"]], start_new_session=True)
    return "ok"


def turn(ident: int, session: str, text: str) -> None:
    before = list(total)
    sessions[session].append({"role": "user", "content": text})
    while True:
        message = think(session)
        sessions[session].append(message)
        if cancelled.is_set() or not message.get("tool_calls"):
            break
        for call in message["tool_calls"]:
            content = use(session, call["function"]["name"], json.loads(call["function"]["arguments"]))
            sessions[session].append({"role": "tool", "tool_call_id": call["id"], "content": content})
    with open(os.path.join(STATE, session), "w") as file:
        json.dump(sessions[session], file)
    spent = [now - then for now, then in zip(total, before, strict=True)]
    usage = {"inputTokens": spent[0], "outputTokens": spent[1], "totalTokens": sum(spent)}
    send({"id": ident, "result": {"stopReason": "cancelled" if cancelled.is_set() else "end_turn", "usage": usage}})


for line in sys.stdin:
    message = json.loads(line)
    method, params, ident = message.get("method"), message.get("params") or {}, message.get("id")
    if method == "initialize":
        able = {"sessionCapabilities": {"resume": {}}}
        send(
            {
                "id": ident,
                "result": {"protocolVersion": 1, "agentCapabilities": able, "agentInfo": {"name": "modelled", "version": "1"}},
            }
        )
    elif method == "session/new":
        sessions["s"] = []
        started("s", params["mcpServers"])
        send({"id": ident, "result": {"sessionId": "s"}})
    elif method == "session/resume":
        with open(os.path.join(STATE, "s")) as file:
            sessions["s"] = json.load(file)
        send({"id": ident, "result": {}})
    elif method == "session/prompt":
        cancelled.clear()
        threading.Thread(target=turn, args=(ident, "s", params["prompt"][0]["text"]), daemon=True).start()
    elif method == "session/cancel":
        cancelled.set()
    elif method is None:
        waiting.pop(str(ident))(message)
    elif ident is not None:
        send({"id": ident, "error": {"code": -32601, "message": "unknown"}})
for server in servers.values():
    server.kill()
os._exit(0)
