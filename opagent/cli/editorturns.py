"""What an editor asks of an open session: a prompt, whose answer waits for the end of its turn, and settings of the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opagent import files
from opagent.acp import spoken
from opagent.acp.connection import Asked
from opagent.acp.messages import as_list
from opagent.cli.app import request_key
from opagent.cli.editorserver import Handler, Server
from opagent.cli.editorsession import Session
from opagent.errors import FileRefused, OpAgentError, Usage

if TYPE_CHECKING:
    from opagent.client import Client

_TITLE = 80  # characters
_SAME_LIMIT = 2**20  # bytes of a file that is compared with what the editor embeds


def prompt(server: Server, asked: Asked) -> None:
    session, key = server.known(asked.params), request_key()
    if session.observes:
        raise Usage("an observer gives no prompts", "", "session/resume the session to take part in it")
    same = _same if not session.line.machine else lambda path, text: False
    found = spoken.pieces(as_list(asked.params.get("prompt")), session.workspace, same)

    def work(client: Client) -> None:
        def kept(image: spoken.Image) -> str:
            said = {"conversation": session.id, "type": image.type, "data": image.data}
            return str(client.request("conversation/image", said)["path"])

        text = spoken.joined(found, kept)
        if not text:
            raise Usage("the prompt is empty")
        said = {"conversation": session.id, "text": text, "request": key, "environment": client.environment()}
        turn = str(client.request("turn/start", said)["turn"]["id"])
        session.shown.mine.add(turn)
        session.prompts[turn] = asked.id
        session.new = False
        _name(client, session, text)

    session.line.run(work, lambda error: server.fail(asked.id, error))


def _name(client: Client, session: Session, text: str) -> None:
    """A conversation without a title is called after the first words that were said in it."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")[:_TITLE]
    if session.title or not first:
        return
    session.title = str(client.request("conversation/name", {"conversation": session.id, "title": first}).get("title") or first)
    session.tell([{"sessionUpdate": "session_info_update", "title": session.title}])


def setting(server: Server, asked: Asked) -> None:
    """session/set_mode, set_model, set_config_option: passed on to the agent, whose answer is the answer."""
    session, key = server.known(asked.params), request_key()
    if session.observes:
        raise Usage("an observer sets nothing")
    params = {name: value for name, value in asked.params.items() if name not in ("sessionId", "_meta")}

    def work(client: Client) -> None:
        session.sets[key] = (asked.id, asked.method)
        client.request("agent/set", {"conversation": session.id, "method": asked.method, "params": params, "request": key})

    def failed(error: OpAgentError) -> None:
        if session.sets.pop(key, None) is not None:
            server.fail(asked.id, error)

    session.line.run(work, failed)


def _same(path: str, text: str) -> bool:
    """Whether the file holds just this."""
    try:
        return files.read_file(path, _SAME_LIMIT) == text.encode()
    except (OSError, ValueError, FileRefused):
        return False


TURNS: dict[str, Handler] = {
    "session/prompt": prompt, "session/set_mode": setting, "session/set_model": setting,
    "session/set_config_option": setting,
}  # fmt: skip
