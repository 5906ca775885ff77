"""Sessions of the echo agent, their settings and their files; it must not send anything."""

from __future__ import annotations

import json
import os

from wire import Message

MODES = {"echo": "says the prompt again", "slow": "one word every 50 ms", "ask": "asks before each answer"}
MODELS = {"plain": "as it came", "upper": "in capitals"}


class Session:
    """One session: directory, settings, what was said."""

    def __init__(self, identity: str, params: Message, mode: str) -> None:
        self.id = identity
        self.cwd = str(params.get("cwd") or os.getcwd())
        self.servers = params.get("mcpServers") or []
        self.meta = params.get("_meta") or {}
        self.mode = mode
        self.model = "plain"
        self.shout = False
        self.cost = 0.0  # of this session in this process
        self.history: list[tuple[str, str]] = []

    def remember(self, prompt: str, answer: str) -> None:
        self.history += [("user", prompt), ("agent", answer)]

    def configure(self, option: object, value: object) -> bool:
        """Set a config option; False when it or the value is unknown."""
        if option == "model" and value in MODELS:
            self.model = str(value)
        elif option == "shout" and isinstance(value, bool):
            self.shout = value
        else:
            return False
        return True

    def settings(self) -> Message:
        """Modes and config options as every session response carries them."""
        models = [{"value": value, "name": value, "description": text} for value, text in MODELS.items()]
        model: Message = {"id": "model", "name": "Model", "category": "model", "type": "select"}
        shout: Message = {"id": "shout", "name": "Shout", "type": "boolean", "currentValue": self.shout}
        available = [{"id": name, "name": name, "description": text} for name, text in MODES.items()]
        return {
            "modes": {"currentModeId": self.mode, "availableModes": available},
            "configOptions": [{**model, "currentValue": self.model, "options": models}, shout],
        }


class Shelf:
    """The sessions of this process, and those of earlier ones when there is a directory to keep them in."""

    def __init__(self, directory: str | None) -> None:
        self.directory = directory
        self.open: dict[str, Session] = {}
        self._closed: dict[str, Session] = {}

    def new(self, params: Message, mode: str) -> Session:
        session = Session("echo-" + os.urandom(8).hex(), params, mode)
        self.open[session.id] = session
        self.save(session)
        return session

    def save(self, session: Session) -> None:
        self._closed[session.id] = session
        if self.directory is None:
            return
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        path = self._path(session.id)
        kept = {"cwd": session.cwd, "mode": session.mode, "model": session.model, "history": session.history}
        with open(path + ".new", "w", encoding="utf-8", errors="surrogatepass") as file:
            json.dump(kept, file)
        os.replace(path + ".new", path)

    def reopen(self, params: Message) -> Session | None:
        """The session that `params` names, with the directory and servers of `params`; None when it is unknown."""
        identity = str(params.get("sessionId"))
        old, kept = self._closed.get(identity), self._read(identity)
        if old is not None:
            kept = {"mode": old.mode, "model": old.model, "history": old.history}
        if kept is None:
            return None
        session = Session(identity, params, kept["mode"])
        session.model = kept["model"]
        session.history = [(role, text) for role, text in kept["history"]]
        self.open[identity] = self._closed[identity] = session
        return session

    def listed(self, cwd: object) -> list[Message]:
        """Every known session as `session/list` shows it, of one directory or of all."""
        found = {identity: session.cwd for identity, session in self._closed.items()}
        for name in os.listdir(self.directory) if self.directory and os.path.isdir(self.directory) else ():
            kept = self._read(name.removesuffix(".json"))
            if kept is not None:
                found.setdefault(name.removesuffix(".json"), str(kept["cwd"]))
        return [{"sessionId": key, "cwd": place} for key, place in sorted(found.items()) if cwd in (None, place)]

    def delete(self, identity: str) -> None:
        self.open.pop(identity, None)
        self._closed.pop(identity, None)
        if self._read(identity) is not None:
            os.unlink(self._path(identity))

    def _path(self, identity: str) -> str:
        return os.path.join(str(self.directory), identity + ".json")

    def _read(self, identity: str) -> Message | None:
        named = identity.startswith("echo-") and identity.removeprefix("echo-").isalnum()
        if self.directory is None or not named or not os.path.exists(self._path(identity)):
            return None
        with open(self._path(identity), encoding="utf-8", errors="surrogatepass") as file:
            loaded: Message = json.load(file)
        return loaded
