"""A whole agent in one file: it speaks the Agent Client Protocol on stdin and stdout, with Python's standard library alone.

Change `answer`; the rest may stay as it is. What you print to stderr is shown by `opagent logs`; stdout belongs to the protocol.
"""

import json
import os
import queue
import sys
import threading
import time

NAME, VERSION = "minimal-python", "0.1.0"
WRITING = threading.Lock()
sessions = {}  # id -> its Session
answers = {}  # id of a request of ours -> the queue on which its turn waits


class Cancelled(Exception):
    """The person stopped this turn."""


class Session:
    def __init__(self, ident, cwd):
        self.id, self.cwd = ident, cwd
        self.busy, self.cancelled = False, threading.Event()

    def say(self, text):
        """One piece of the answer; send it as soon as you have it."""
        if self.cancelled.is_set():
            raise Cancelled
        self.update({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}})

    def update(self, update):
        send({"method": "session/update", "params": {"sessionId": self.id, "update": update}})

    def ask(self, call):
        """Ask whether a tool may be used; waits as long as the person takes."""
        ident, reply = f"ask-{len(answers) + 1}", queue.Queue()
        answers[ident] = reply
        options = [
            {"optionId": "yes", "name": "Allow", "kind": "allow_once"},
            {"optionId": "no", "name": "Reject", "kind": "reject_once"},
        ]
        params = {"sessionId": self.id, "toolCall": call, "options": options}
        send({"id": ident, "method": "session/request_permission", "params": params})
        outcome = (reply.get().get("result") or {}).get("outcome") or {}
        if outcome.get("outcome") == "cancelled":
            raise Cancelled
        return outcome.get("optionId") == "yes"


def answer(session, text):
    """Your agent. Here: `write FILE TEXT` asks and writes a file, everything else is said again."""
    words = text.split(" ", 2)
    if words[0] == "write" and len(words) == 3:
        path = os.path.join(session.cwd, words[1])
        call = {"toolCallId": "write-1", "title": f"Write {words[1]}", "kind": "edit", "locations": [{"path": path}]}
        call["content"] = [{"type": "diff", "path": path, "newText": words[2]}]
        session.update({"sessionUpdate": "tool_call", "status": "pending", **call})
        allowed = session.ask(call)
        if allowed:
            with open(path, "w", encoding="utf-8") as file:
                file.write(words[2])
        status = "completed" if allowed else "failed"
        session.update({"sessionUpdate": "tool_call_update", "toolCallId": "write-1", "status": status})
        session.say(f"{'wrote' if allowed else 'did not write'} {words[1]}")
        return
    for word in f"echo: {text}".split(" "):
        session.say(word + " ")
        time.sleep(0.02)


# ---- the protocol: https://agentclientprotocol.com ---------------------------------------------------------------------------


def send(message):
    with WRITING:
        print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def fail(ident, code, words):
    send({"id": ident, "error": {"code": code, "message": words}})


def turn(ident, session, text):
    try:
        answer(session, text)
        end = {"result": {"stopReason": "end_turn"}}
    except Cancelled:
        end = {"result": {"stopReason": "cancelled"}}
    except Exception as error:  # the person sees it; the next turn may go well
        end = {"error": {"code": -32603, "message": f"{type(error).__name__}: {error}"}}
    session.busy = False
    send({"id": ident, **end})


def requested(ident, method, params):
    session = sessions.get(params.get("sessionId"))
    if method == "initialize":
        info, able = {"name": NAME, "version": VERSION}, {"loadSession": False}
        send({"id": ident, "result": {"protocolVersion": 1, "agentInfo": info, "agentCapabilities": able, "authMethods": []}})
    elif method == "session/new":
        session = Session(f"session-{len(sessions) + 1}", params["cwd"])
        sessions[session.id] = session
        send({"id": ident, "result": {"sessionId": session.id}})
    elif method == "session/prompt" and session is None:
        fail(ident, -32002, "there is no such session")
    elif method == "session/prompt" and session.busy:
        fail(ident, -32600, "a turn is running in this session")
    elif method == "session/prompt":
        session.busy = True
        session.cancelled.clear()
        texts = [block["text"] for block in params["prompt"] if block.get("type") == "text"]
        threading.Thread(target=turn, args=(ident, session, texts[-1] if texts else ""), daemon=True).start()
    else:
        fail(ident, -32601, f"{method} is not offered")


def received(message):
    method, params = message.get("method"), message.get("params") or {}
    if method and "id" in message:
        requested(message["id"], method, params)
    elif method == "session/cancel" and params.get("sessionId") in sessions:
        sessions[params["sessionId"]].cancelled.set()
    elif message.get("id") in answers:
        answers[message["id"]].put(message)


for line in sys.stdin:  # ends when OpAgent closes it, and so does the agent
    try:
        message = json.loads(line)
    except ValueError:
        fail(None, -32700, "this is no JSON")
        continue
    if isinstance(message, dict):
        received(message)
os._exit(0)  # in the middle of a turn as well
