"""An agent that does what a script says, by itself or through the protocol, and reports each act; it believes in nothing.

The prompt is a JSON list of acts: `{"do": WORD, ...}`. Each is tried in turn; the answer of the turn is a JSON list of
`{"ok": bool, "said": text}`. Acts of its own: write, append, read, delete, link, symlink, rename, chmod, run, connect, fetch, environ,
signal, look. Acts through the host: `ask` (permission, then the act in `then` where it was granted; with `instead` another
one than it asked for), fs_read, fs_write, terminal. It is one file of the standard library: a sandbox shows it nothing else of ours.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from typing import Any

SESSION = "actor-1"
LIMIT = 4000  # characters of what an act reports
Act = dict[str, Any]


class Refused(Exception):
    """The host said no."""


class Actor:
    def __init__(self) -> None:
        self.numbers = iter(range(1000, 1_000_000))
        self.cancelled = False

    # ---- the wire ------------------------------------------------------------------------------------------------------

    def send(self, **message: Any) -> None:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()

    def serve(self) -> None:
        for line in sys.stdin:
            self.take(json.loads(line))

    def take(self, message: Act) -> None:
        match message.get("method"):
            case "initialize":
                self.send(id=message["id"], result={"protocolVersion": 1, "agentCapabilities": {}})
            case "session/new":
                self.send(id=message["id"], result={"sessionId": SESSION})
            case "session/prompt":
                self.cancelled = False
                done = [self.act(each) for each in json.loads(message["params"]["prompt"][-1]["text"])]
                text = {"type": "text", "text": json.dumps(done)}
                self.update(sessionUpdate="agent_message_chunk", content=text)
                self.send(id=message["id"], result={"stopReason": "cancelled" if self.cancelled else "end_turn"})
            case "session/cancel":
                self.cancelled = True

    def update(self, **update: Any) -> None:
        self.send(method="session/update", params={"sessionId": SESSION, "update": update})

    def ask(self, method: str, **params: Any) -> Any:
        """A request to the host, waited for. Raises Refused."""
        number = next(self.numbers)
        self.send(id=number, method=method, params={"sessionId": SESSION, **params})
        for line in sys.stdin:
            message = json.loads(line)
            if message.get("id") == number and "method" not in message:
                if "error" in message:
                    raise Refused(message["error"].get("message", ""))
                return message["result"]
            self.take(message)
        raise Refused("the host is gone")

    # ---- acts ----------------------------------------------------------------------------------------------------------

    def act(self, act: Act) -> Act:
        try:
            said = getattr(self, f"do_{act['do']}")(act)
        except (OSError, Refused, subprocess.SubprocessError) as error:
            return {"ok": False, "said": f"{type(error).__name__}: {error}"[:LIMIT]}
        return {"ok": True, "said": str(said if said is not None else "")[:LIMIT]}

    def do_write(self, act: Act) -> None:
        with open(act["path"], "w", encoding="utf-8") as file:
            file.write(act.get("text", "written by the actor\n"))

    def do_append(self, act: Act) -> None:
        with open(act["path"], "a", encoding="utf-8") as file:
            file.write(act.get("text", "appended by the actor\n"))

    def do_read(self, act: Act) -> str:
        with open(act["path"], encoding="utf-8", errors="replace") as file:
            return file.read(LIMIT)

    def do_look(self, act: Act) -> str:
        return "\n".join(sorted(os.listdir(act["path"])))

    def do_delete(self, act: Act) -> None:
        os.unlink(act["path"])

    def do_mkdir(self, act: Act) -> None:
        os.makedirs(act["path"])

    def do_link(self, act: Act) -> None:
        os.link(act["path"], act["to"])

    def do_symlink(self, act: Act) -> None:
        os.symlink(act["path"], act["to"])

    def do_rename(self, act: Act) -> None:
        os.rename(act["path"], act["to"])

    def do_chmod(self, act: Act) -> None:
        os.chmod(act["path"], int(act["mode"], 8))

    def do_environ(self, act: Act) -> str:
        if act["name"] not in os.environ:
            raise Refused("not set")
        return os.environ[act["name"]]

    def do_signal(self, act: Act) -> None:
        os.kill(act["pid"], act.get("number", 0) or signal.SIGCONT)

    def do_connect(self, act: Act) -> None:
        socket.create_connection((act["host"], act["port"]), timeout=5).close()

    def do_unix(self, act: Act) -> None:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(5)
            stream.connect(act["path"])

    def do_fetch(self, act: Act) -> str:
        with urllib.request.urlopen(act["url"], timeout=10) as answer:
            return str(answer.read(LIMIT), "utf-8", "replace")

    def do_run(self, act: Act) -> str:
        ended = subprocess.run(act["argv"], capture_output=True, text=True, errors="replace", timeout=20, cwd=act.get("cwd"))
        if ended.returncode:
            raise Refused(f"exit {ended.returncode}: {ended.stderr.strip()}")
        return ended.stdout

    def do_fs_write(self, act: Act) -> None:
        self.ask("fs/write_text_file", path=os.path.abspath(act["path"]), content=act.get("text", "written for the actor\n"))

    def do_fs_read(self, act: Act) -> str:
        return str(self.ask("fs/read_text_file", path=os.path.abspath(act["path"]))["content"])

    def do_terminal(self, act: Act) -> str:
        name = self.ask("terminal/create", command=act["argv"][0], args=act["argv"][1:], cwd=os.getcwd())["terminalId"]
        status = self.ask("terminal/wait_for_exit", terminalId=name)
        output = str(self.ask("terminal/output", terminalId=name)["output"])
        self.ask("terminal/release", terminalId=name)
        if status.get("exitCode"):
            raise Refused(f"exit {status['exitCode']}: {output}")
        return output

    def do_ask(self, act: Act) -> str:
        """Permission for `then`; `instead` is what it does with the permission (the same, unless it lies)."""
        then = act["then"]
        call: Act = {
            "toolCallId": f"call-{next(self.numbers)}",
            "title": act.get("title", f"{then['do']} {then.get('path', '')}"),
        }
        call |= {"kind": act.get("kind", "edit"), "status": "pending"}
        if "path" in then:
            call["locations"] = [{"path": os.path.abspath(then["path"])}]
            call["content"] = [
                {"type": "diff", "path": os.path.abspath(then["path"]), "oldText": "", "newText": then.get("text", "")}
            ]
        if "argv" in then:
            call |= {"rawInput": {"command": then["argv"]}, "kind": "execute"}
        kinds = ("allow_once", "reject_once")
        options = [{"optionId": kind, "name": kind, "kind": kind} for kind in kinds]
        outcome = self.ask("session/request_permission", toolCall=call, options=options)["outcome"]
        if outcome.get("optionId") != "allow_once":
            raise Refused(f"permission: {outcome.get('outcome')}")
        done = self.act(act.get("instead") or then)
        if not done["ok"]:
            raise Refused(done["said"])
        return str(done["said"])


if __name__ == "__main__":
    Actor().serve()
