"""Directories here whose conversations live on another machine: their files stand here too, and are kept in step.

API: `Mirrors`, one per daemon: `begin`, `resume`, `end`, `wake`, `of`, `refuse`, `settle`, `listed`, `machines`, `close`. One
dials nothing: it asks for a connection from time to time, and gets one where somebody has made it. (Design: "The mirror".)
"""

from __future__ import annotations

import asyncio
import getpass
import logging
import os
import secrets
import shlex
import shutil
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opagent import paths
from opagent.daemon import mirrorstate, whereabouts
from opagent.daemon.mirrorfile import LIMIT, MirroredFile
from opagent.daemon.mirrorstate import State
from opagent.daemon.peer import Peer, connect
from opagent.document import draft, edit, frontmatter
from opagent.document.draft import Gesture
from opagent.document.names import free_name, new_conversation
from opagent.errors import Conflict, FileRefused, HostUnreachable, OpAgentError
from opagent.store import mirrors as rows
from opagent.store.events import timestamp
from opagent.store.mirrors import Mirrored
from opagent.watch import workfiles
from opagent.watch.changes import relevant
from opagent.watch.observer import Observer
from opagent.watch.settled import locate, settled_read

if TYPE_CHECKING:
    from opagent.daemon.host import Host

log = logging.getLogger(__name__)

Factory = Callable[[], Awaitable[Peer]]
MOST, ROOM = 1000, 1 << 30  # conversations of one mirror, and bytes of all its files
_DIGEST = 64  # characters
AT_ONCE = 4  # that are read or sent at the same time
FIRST, SLOWEST = 1.0, 30.0  # seconds between two questions for a connection
_SOON = 0.02  # seconds


class Mirror:
    """One directory. Made by `Mirrors.begin`."""

    def __init__(self, host: Host, directory: Path, remote: str, factory: Factory, name: str, conversations: str) -> None:
        self.directory, self.remote, self.name = directory, remote, name
        self.folder = _beneath(directory, conversations)
        self.states = mirrorstate.folder(directory)
        self.spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]] = host.shared.spawn
        self.peer: Peer | None = None
        self.closing = False
        self.turnstile = asyncio.Semaphore(AT_ONCE)
        self.files = {ident: MirroredFile(self, ident, state) for ident, state in mirrorstate.known(self.states)}
        self._factory = factory
        self._wake = asyncio.Event()
        self._standing: dict[str, str] | None = None
        self._room = ROOM

    # ---- the other side --------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """For ever: while there is a connection, what changes on either side goes to the other."""
        pause = FIRST
        while not self.closing:
            self._wake.clear()  # first: who wakes us while we try may have made the connection that we just missed
            try:
                await self._linked(await self._factory())
                pause = FIRST
            except (OSError, OpAgentError) as error:
                log.debug("%s: %s", self.name, error)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            pause = min(SLOWEST, 2 * pause)

    def wake(self) -> None:
        """There may be a connection now."""
        self._wake.set()

    async def _linked(self, peer: Peer) -> None:
        try:
            await peer.request("document/watch", {"path": self.remote})
            answer = await peer.request("document/list", {"path": self.remote})
            listed = answer.get("documents")
            self.peer = peer
            told = {self._told(said) for said in (listed if isinstance(listed, list) else [])[:MOST]}
            for file in self.files.values():
                if file.ident not in told:
                    file.there = None  # what was there before the loss is not known to be there now
                file.poke()
            async for method, said in peer.notes():
                if method == "document":
                    self._told(said)
        finally:
            self.peer = None
            peer.close()

    def _told(self, said: Any) -> str:
        """The other side says what a conversation's file holds. Returns whose, if it is known here then."""
        if not isinstance(said, Mapping):
            return ""
        ident, there = str(said.get("conversation")), said.get("digest")
        if not frontmatter.is_id(ident) or not (there is None or (isinstance(there, str) and len(there) <= _DIGEST)):
            return ""
        file = self.files.get(ident)
        if file is None:
            if there is None or len(self.files) >= MOST:
                return ""
            file = self.files[ident] = MirroredFile(self, ident, State(_local(str(said.get("path")), ident)))
        if there is None and file.there is not None:
            log.info("%s is gone on %s; it stays here", file.path, self.name)
        file.tell(there)
        return ident

    # ---- here ------------------------------------------------------------------------------------------------------------

    async def standing(self) -> dict[str, str]:
        """The conversations whose files were here before anything was known of them, and their paths."""
        if self._standing is None:
            found = await asyncio.to_thread(whereabouts.known, str(self.folder))
            self._standing = {ident: os.path.relpath(path, self.folder) for ident, path in found.items()}
        return self._standing

    def free_path(self, wanted: str) -> str:
        """A path beneath the directory of conversations that nothing has; no link is on the way to it."""
        folder, name = os.path.split(wanted)
        there = self.folder / folder
        if os.path.realpath(there) != str(there) or (there.exists() and not there.is_dir()):
            folder, there = "", self.folder
        taken = {each.lower() for each in os.listdir(there)} if there.is_dir() else set()
        return os.path.join(folder, free_name(name.removesuffix(".md"), lambda other: other.lower() in taken))

    @contextmanager
    def room(self, more: int) -> Iterator[None]:
        """For so many bytes more of the other machine, where that succeeds. Raises FileRefused where they are too many."""
        if more > self._room:
            raise FileRefused(f"{self.folder} is full", f"a mirror holds at most {ROOM} bytes")
        self._room -= more
        try:
            yield
        except BaseException:
            self._room += more
            raise

    async def look(self, again: bool) -> None:
        """What stands here already; `again`: an earlier daemon had this mirror, so texts may have been saved since.

        Nobody saw that a person did so: they become conversations there, and ask before they are sent.
        """
        self._room -= await asyncio.to_thread(whereabouts.bytes_in, str(self.folder))
        for file in list(self.files.values()):
            file.poke()
        for path in await asyncio.to_thread(whereabouts.nameless, str(self.folder)) if again else ():
            if relevant(os.path.basename(path)):
                await self._arrived(path, watched=False)

    def forget(self, file: MirroredFile) -> None:
        """It was begun here, and taken away again before anybody there knew it."""
        self.files.pop(file.ident, None)
        (self.states / file.ident).unlink(missing_ok=True)

    def noticed(self, path: str) -> None:
        """Something happened to a file here. Called on the loop."""
        for file in self.files.values():
            if file.path == path:
                file.poke()
                return
        if not self.closing:
            self.spawn(self._arrived(path), f"look at {os.path.basename(path)}")

    async def _arrived(self, path: str, watched: bool = True) -> None:
        """A file that nobody knows: one of ours that was moved, or a text that is to be sent."""
        try:
            reading = await settled_read(locate(self.directory, Path(path)), 1.0)
            content = reading.content
        except (OSError, OpAgentError) as error:
            log.info("%s: %s", path, error)
            return
        ident = frontmatter.conversation_id(content)
        if file := self.files.get(ident):
            file.poke()
        elif not ident and _sends(content) and not any(each.path == path for each in self.files.values()):
            ident = new_conversation(secrets.token_bytes(16))
            state = State(os.path.relpath(path, self.folder), new=True)
            mirrorstate.store(self.states, ident, state)
            self.files[ident] = file = MirroredFile(self, ident, state)
            file.watched = watched
            file.poke()

    async def close(self) -> None:
        self.closing = True
        self.wake()
        if self.peer is not None:
            self.peer.close()
        await asyncio.gather(*(file.idle() for file in self.files.values()))


class Mirrors:
    """One per daemon."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._known = {row.directory: row for row in host.database.read(rows.listed)}
        self._mirrors: dict[str, Mirror] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.observer = Observer(host.shared.spawn, self._noticed)

    async def begin(
        self,
        local_directory: str,
        remote_path: str,
        peer_factory: Factory | None,
        name: str,
        conversations: str = paths.CONVERSATIONS,
    ) -> Mirror:
        """From now on the directory holds the conversation files of `remote_path` on the machine `name`; also after a restart.

        `peer_factory` gives a connection where there is one, and raises HostUnreachable where there is none: it is asked again
        and again; None: by the link that this daemon has to that machine, while it has one. Raises Conflict where another daemon
        works in the directory or it mirrors another one, NotPrivate, FileRefused, OSError.
        """
        directory = os.path.realpath(local_directory)
        wanted = Mirrored(directory, name, remote_path, conversations, timestamp())
        known = self._known.get(directory)
        if known is not None and (known.machine, known.path) != (name, remote_path):
            what = f"{directory} mirrors {known.machine}:{known.path}"
            raise Conflict(what, "a directory mirrors one other", f"opagent host unmirror {shlex.quote(directory)}")
        if mirror := self._mirrors.get(directory):
            mirror.wake()
            return mirror
        self._host.shared.ownership.take(directory)
        workfiles.prepare(Path(directory))
        factory = peer_factory or (lambda: self._by_link(name))
        mirror = Mirror(self._host, Path(directory), remote_path, factory, name, conversations)
        self._known[directory], self._mirrors[directory] = known or wanted, mirror  # before anybody else asks for the same one
        try:
            await self._host.database.write(lambda db: rows.put(db, known or wanted), barrier=True)
        except OpAgentError:
            del self._known[directory], self._mirrors[directory]
            raise
        if mirror.closing:  # ended meanwhile
            return mirror
        self._host.watching.leave(str(mirror.folder))
        self._tasks[directory] = self._host.shared.spawn(self._keep(mirror, known is not None), f"mirror of {name}")
        return mirror

    async def resume(self) -> None:
        """Those that an earlier daemon had. Nothing is dialed for them."""
        for row in list(self._known.values()):
            if not os.path.isdir(row.directory):
                log.info("%s is gone, so it is not mirrored", row.directory)
                continue
            try:
                await self.begin(row.directory, row.path, None, row.machine, row.conversations)
            except (OSError, OpAgentError) as error:  # the directory is gone, or somebody else's
                log.info("%s is not mirrored: %s", row.directory, error)

    def other(self, directory: str, machine: str, path: str) -> bool:
        """Whether a directory mirrors another one than this."""
        known = self._known.get(os.path.realpath(directory))
        return known is not None and (known.machine, known.path) != (machine, path)

    async def end(self, directory: str) -> bool:
        """It is a mirror no longer; its files stay, and nothing of them is known any more. Whether it was one."""
        real = os.path.realpath(directory)
        self._known.pop(real, None)
        if mirror := self._mirrors.pop(real, None):
            await mirror.close()
            if task := self._tasks.pop(real, None):
                task.cancel()
            self.observer.unwatch(str(mirror.folder))
            shutil.rmtree(mirror.states, ignore_errors=True)
        return await self._host.database.write(lambda db: rows.remove(db, real), barrier=True)

    async def _keep(self, mirror: Mirror, again: bool) -> None:
        await self.observer.watch(str(mirror.folder)).ready.wait()
        await mirror.look(again)
        await mirror.keep()

    def of(self, path: str) -> Mirrored | None:
        """The mirror that a path is in: its conversations are none of ours."""
        real = os.path.realpath(path)
        inside = (known for known in self._known.values() if real == known.directory or real.startswith(known.directory + "/"))
        return next(inside, None)

    def refuse(self, path: str) -> None:
        """Raises Conflict for a path in a mirror."""
        if (known := self.of(path)) is not None:
            there = f"{known.machine}:{known.path}"
            raise Conflict(f"{path} is a mirror", f"its conversations live in {there}", f"opagent open {there}")

    async def settle(self, path: str, within: float) -> None:
        """Waits until what was saved in a file of a mirror is on the other machine too. Raises Conflict when that is late."""
        known, ident = self.of(path), whereabouts.ident_of(path)
        mirror = self._mirrors.get(known.directory) if known is not None else None
        file = mirror.files.get(ident) if mirror is not None else None
        end = asyncio.get_running_loop().time() + within
        while mirror is not None and (file is None or file.waits or mirror.peer is None or not file.looked):
            if asyncio.get_running_loop().time() > end:
                why = (file.problem if file is not None else "") or f"nothing of it within {within:g} s"
                raise Conflict(f"what was saved in {path} is not on {mirror.name} yet", why, "opagent send TARGET TEXT")
            mirror.wake()
            if (file := mirror.files.get(ident)) is not None:
                file.poke()
                await file.idle()
            await asyncio.sleep(_SOON)

    def machines(self) -> set[str]:
        """Whose directories stand here."""
        return {mirror.name for mirror in self._mirrors.values()}

    def wake(self, name: str = "") -> None:
        """There may be a connection to the machine `name` now, or to any."""
        for mirror in self._mirrors.values():
            if name in ("", mirror.name):
                mirror.wake()

    def wanted(self) -> bool:
        """Whether one is connected, so that what happens on either side goes to the other."""
        return any(mirror.peer is not None for mirror in self._mirrors.values())

    def listed(self) -> list[dict[str, Any]]:
        """For `mirror/list`."""
        found = []
        for row in self._known.values():
            mirror = self._mirrors.get(row.directory)
            files = list(mirror.files.values()) if mirror is not None else []
            found.append(
                {
                    "directory": row.directory, "machine": row.machine, "path": row.path,
                    "connected": mirror is not None and mirror.peer is not None, "files": len(files),
                    "waiting": [file.path for file in files if file.waits],
                    "problems": [{"path": file.path, "problem": file.problem} for file in files if file.problem],
                }
            )  # fmt: skip
        return found

    async def close(self) -> None:
        await asyncio.gather(*(mirror.close() for mirror in self._mirrors.values()))
        for task in self._tasks.values():
            task.cancel()
        await self.observer.close()

    async def _by_link(self, machine: str) -> Peer:
        try:
            return await connect(paths.machine_socket(machine))
        except HostUnreachable:
            await self._host.links.doubt(machine)  # the connection may stand, and the daemon there be gone
            raise

    def _noticed(self, path: str) -> None:
        for mirror in self._mirrors.values():
            if path.startswith(f"{mirror.folder}/"):
                mirror.noticed(path)
                return


def _beneath(directory: Path, conversations: str) -> Path:
    """The directory of conversations, made where it is missing. Raises FileRefused for a link out of here."""
    folder = Path(os.path.realpath(directory / conversations))
    if not folder.is_relative_to(directory):
        raise FileRefused(f"{directory / conversations} leads out of {directory}", f"to {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _local(path: str, ident: str) -> str:
    """What a file is called here that is called so there; a name that is not plain is not used."""
    pieces = path.split("/")
    plain = all(piece.isprintable() and "\\" not in piece and len(os.fsencode(piece)) <= 200 for piece in pieces)
    ok = plain and len(pieces) <= 2 and relevant(path) and not {"", ".", ".."}.intersection(pieces)
    return path if ok else f"{ident}.md"


def _sends(content: bytes) -> bool:
    """Whether a file that no conversation has is to become one."""
    if len(content) > LIMIT or frontmatter.get(content, "part"):
        return False
    return draft.read(edit.load(content).draft(getpass.getuser())).gesture is Gesture.SEND
