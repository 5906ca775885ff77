"""One conversation's file in a mirror: saves made here go to the other machine, versions from there come into the file.

API: `MirroredFile`. One worker at a time; it is poked when something may have changed on either side. What comes from there
is written as a daemon writes its own files: by an exchange, after which what came out is looked at. (Design: "The mirror".)
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opagent.daemon import filerights, mirrorparts, mirrorstate, whereabouts
from opagent.daemon.mirrorstate import State
from opagent.document import frontmatter, mirrored
from opagent.document.delta import pack, unpack
from opagent.document.mirrored import Known, Step, digest
from opagent.document.parse import scan
from opagent.document.records import file_digest
from opagent.errors import Conflict, FileRefused, HostUnreachable, OpAgentError
from opagent.watch import exchange, gitstate, workfiles
from opagent.watch.dirty import dirty
from opagent.watch.exchange import Result
from opagent.watch.settled import Place, Stamp, locate, settled_read, unchanged

if TYPE_CHECKING:
    from opagent.daemon.mirror import Mirror

log = logging.getLogger(__name__)

LIMIT = 8 << 20  # bytes of a file that is mirrored
AGAIN, SLOWEST = 1.0, 60.0  # seconds until what did not succeed is tried once more, the first time and at last
HELD = 1.0  # seconds between two looks at an editor with unsaved changes
_WORDS = 1000  # characters of a problem
_ROUNDS = 50  # in a row, before others get their turn


class MirroredFile:
    def __init__(self, mirror: Mirror, ident: str, state: State) -> None:
        self.mirror, self.ident, self.state = mirror, ident, state
        self.there: str | None = None  # digest of what stands there; None: nobody knows, or there is none
        self._told = 0  # how often that machine has said it of its own accord
        self.problem = ""  # why it is not in step
        self._disk: bytes | None = None  # what the file held when it was read last
        self._stamp: Stamp | None = None
        self._saves: list[tuple[Path, bytes]] = []  # that came out of the file, and what it held before; empty: nobody knows
        self.watched = True  # a text that was begun here was so before our eyes
        self._begun = False
        self._resting = False  # its versions are in the state's file only
        self._again = False
        self._failures = 0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def path(self) -> str:
        return str(self.mirror.folder / self.state.path)

    @property
    def waits(self) -> bool:
        """Whether something that was saved here is not there yet, as far as anybody has looked."""
        if self._resting:
            return False
        known = self._disk is not None and file_digest(self._disk) not in (file_digest(self.state.base), self.state.refused)
        return known or bool(self._saves) or self.state.new

    @property
    def looked(self) -> bool:
        """Whether both sides are known as they were a moment ago."""
        return self._stamp is not None and unchanged(self._place(), self._stamp)

    def _place(self) -> Place:
        """Raises FileRefused where the file leads out of the directory of conversations."""
        place = locate(self.mirror.directory, Path(self.path))
        if not place.path.is_relative_to(self.mirror.folder):
            raise FileRefused(f"{self.path} leads out of {self.mirror.folder}", f"to {place.path}")
        return place

    # ---- when ------------------------------------------------------------------------------------------------------------

    def poke(self) -> None:
        """Something may have changed here or there."""
        self._again = True
        if self._task is None and not self.mirror.closing:
            self._task = self.mirror.spawn(self._work(), f"mirror {self.ident}")

    def tell(self, there: str | None) -> None:
        """That machine says what stands there."""
        self.there = there
        self._told += 1
        self.poke()

    async def idle(self) -> None:
        """Waits for the worker."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def _later(self, seconds: float) -> None:
        """One look, however often it was asked for."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.poke)

    async def _work(self) -> None:
        try:
            while self._again and not self.mirror.closing:
                self._again = False
                async with self.mirror.turnstile:
                    self._recall()
                    await self._once()
                    self._rest()
        finally:
            self._task = None

    def _rest(self) -> None:
        """Gives back the bytes of a file that is in step: the other machine says how large they are."""
        state = self.state
        if self._begun and state.base and self._disk == state.base and not (self._saves or state.new or state.coming):
            self._resting, self._disk = True, b""
            state.base = state.seen = b""
            state.past = ()

    def _recall(self) -> None:
        if self._resting:
            self._resting = False
            self.state = mirrorstate.load(self.mirror.states, self.ident) or State(self.state.path)
            self._disk = self.state.base or None
            self._stamp = self._stamp if self._disk else None

    async def _once(self) -> None:
        stuck = self.problem if self._failures else ""
        try:
            for _ in range(_ROUNDS):
                if not await self._sync():
                    self._failures, self.problem = 0, "" if self.problem == stuck else self.problem
                    return
            self.poke()
        except HostUnreachable:
            pass  # the mirror finds out, and comes back
        except (OSError, OpAgentError) as error:
            self.hindered(str(error))
            self._later(min(SLOWEST, AGAIN * 2**self._failures))
            self._failures = min(self._failures + 1, 10)

    def hindered(self, why: str) -> None:
        """Said once. Words of the other machine are in it."""
        why = why[:_WORDS]
        if why != self.problem:
            self.problem = why
            log.warning("%s: %s", self.path, why)

    # ---- one step --------------------------------------------------------------------------------------------------------

    async def _sync(self) -> bool:
        """Whether something was done, so that there may be more to do."""
        if not self._begun:
            await self._begin()
        connected = self.mirror.peer is not None
        if self._saves and connected and not self.state.new:
            await self._push_displaced()
            return True
        here = await self._look()
        if self.state.new:
            return await self._begin_there(here) if connected else False
        there = self.there if connected else None
        base = file_digest(self.state.base) if self.state.base else ""
        match mirrored.step(Known(base, self.state.refused, self.state.left), digest(here), there):
            case Step.SAME:
                self.state.seen = here or b""
                self._have(here or b"")
            case Step.MAKE:
                await self._make(await self._fetch())
            case Step.PULL:
                return await self._pull(here or b"")
            case Step.PUSH:
                await self._push(here or b"")
            case Step.NOTHING | Step.WAIT:
                return here is None and self.state.left and there not in (None, base) and await self._back(there)
        return True

    async def _begin(self) -> None:
        """What an earlier daemon left: a version that it had put into the file, or was about to, and saves that it took out."""
        state = self.state
        if not (state.base or state.coming or state.new):  # nothing is known of it, and perhaps it is here all the same
            state.path = (await self.mirror.standing()).get(self.ident, state.path)
        ours = [content for content in (state.coming, state.base, state.seen) if content]
        for path in whereabouts.left(self.mirror.directory, self.path, self.ident):
            content = path.read_bytes()
            if not content.strip() or any(version.startswith(content) for version in ours):
                path.unlink()
            else:
                self._saves.append((path, b""))
        self._begun = True

    def _store(self) -> None:
        mirrorstate.store(self.mirror.states, self.ident, self.state)

    # ---- here ------------------------------------------------------------------------------------------------------------

    async def _look(self) -> bytes | None:
        """The file as it is now, None where there is none. Raises Conflict for one that is being written, FileRefused."""
        if self._stamp is not None and unchanged(self._place(), self._stamp):
            return self._disk
        known, whose = bool(self.state.base or self.state.new), whereabouts.ident_of(self.path)
        if whose != self.ident and (whose or not known or not os.path.lexists(self.path)) and not await self._follow(known):
            self._left()
            return None
        try:
            reading = await settled_read(self._place())
        except FileNotFoundError:
            self._left()
            return None
        if not reading.quiet:
            raise Conflict(f"somebody writes {self.path}")
        if reading.torn:
            raise Conflict(f"{self.path} is empty")
        if len(reading.content) > LIMIT:
            raise FileRefused(f"{self.path} is too large for a mirror", f"{len(reading.content)} bytes, the limit is {LIMIT}")
        if self._disk is not None and self.mirror.peer is None:
            self._keep(self._disk, reading.content)  # an editor that was behind may have saved
        self._disk, self._stamp = reading.content, reading.stamp
        if self.state.left or self.state.coming == reading.content:
            self._have(self.state.coming if self.state.coming == reading.content else self.state.base)
        return reading.content

    async def _follow(self, known: bool) -> bool:
        """A file that was renamed or moved is found again by its id. An editor may be between its rename and its create."""
        if not known and self.state.coming == b"":
            return False
        found = await asyncio.to_thread(whereabouts.moved_to, str(self.mirror.folder), self.ident)
        if found is None:
            return not os.path.lexists(self.path) and not self.state.left
        self.state.path = os.path.relpath(found, self.mirror.folder)
        self._store()
        return True

    def _left(self) -> None:
        self._disk = self._stamp = None
        if self.state.base and not self.state.left:
            self.state.left = True
            self._store()
            log.info("%s was taken away; that of %s stays, and comes back with its next turn", self.path, self.mirror.name)

    def _keep(self, content: bytes, instead: bytes) -> None:
        """Bytes that the file does not hold any more, where something that a person typed goes with them."""
        if mirrored.gone_lines(content, instead):
            workfiles.keep(self.mirror.directory, Path(self.path).name, content)

    async def _make(self, content: bytes) -> None:
        """A new file here. A name that is taken gets a number."""
        with self.mirror.room(len(content)):
            self.state.path = self.mirror.free_path(self.state.path)
            self.state.coming = content
            self._store()
            self._stamp = await exchange.create(self._place(), content)
        self._disk = self.state.seen = content
        self._have(content)
        await mirrorparts.fetch(self, content)

    def _have(self, content: bytes) -> None:
        """Both sides have this version now."""
        state = self.state
        if state.base not in (b"", content, state.seen):
            state.past = (state.base, *state.past)[: mirrorstate.PAST]
        state.base, state.coming, state.refused, state.left = content, b"", "", False
        self.problem = ""
        self._store()

    async def _put(self, content: bytes, expected: bytes) -> None:
        """A version from there into the file, which is believed to hold `expected`. Raises Conflict where it cannot be."""
        if content == expected:
            self._have(content)
            return
        with self.mirror.room(len(content) - len(expected)):
            self._keep(expected, content)
            self.state.coming = content
            self._store()
            outcome = await exchange.write_version(self._place(), content, expected)
        self._saves += [(path, expected) for path in outcome.held]
        if outcome.written:
            self._disk, self._stamp = content, outcome.stamp
            self._have(content)
            await mirrorparts.fetch(self, content)
        elif outcome.result is not Result.GONE:
            self._stamp = None
            raise Conflict(f"{self.path} is not written", outcome.why or outcome.result.value)

    def _brought(self, path: str, stamp: Stamp | None) -> bool:
        """Whether what a save asks for does not count: git brought it, or somebody else may have written it."""
        if stamp is None or gitstate.brought(self.path, stamp.mtime_ns):
            return True
        if why := filerights.strangers(str(self.mirror.directory), path):
            self.hindered(f"nothing is sent from here: {why}")
        return bool(why)

    # ---- there -----------------------------------------------------------------------------------------------------------

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        if self.mirror.peer is None:
            raise HostUnreachable(f"{self.mirror.name} is not connected")
        return await self.mirror.peer.request(method, {"conversation": self.ident, **params})

    async def _fetch(self) -> bytes:
        """What stands there now. Raises FileRefused for what is not this conversation."""
        base = self.state.base
        told = self._told
        answer = await self.ask("document/read", {"base": file_digest(base)} if base else {})
        content = self._checked(unpack(answer.get("document"), base, LIMIT))
        self._stands(content, told)
        return content

    def _stands(self, content: bytes, told: int) -> None:
        """As an answer says. What that machine said meanwhile may be newer: then that counts, and is looked at."""
        if told == self._told:
            self.there = file_digest(content)

    def _checked(self, content: bytes) -> bytes:
        whose = frontmatter.conversation_id(content) if frontmatter.is_conversation(content) else ""
        if whose != self.ident or b"\0" in content:
            raise FileRefused(f"{self.mirror.name} gives something else for {self.path}", f"its id is {whose or 'missing'}")
        return content

    async def _pull(self, here: bytes) -> bool:
        content = await self._fetch()
        if mirrored.streamed(here, content) and dirty(self.path):
            self._later(HELD)
            return False
        await self._put(content, here)
        return True

    async def _push(self, save: bytes) -> None:
        """What was saved here goes there; what it became comes back."""
        state = self.state
        base = mirrored.origin(save, [version for version in (state.coming, state.base, *state.past, state.seen) if version])
        stands = await self._send(save, base, not base or self._brought(self.path, self._stamp))
        if stands is not None:
            state.base = save  # that side has it, too; what is older has been loaded
            await self._put(stands, save)

    async def _push_displaced(self) -> None:
        """A save that came out of the file when a version from there went in."""
        path, before = self._saves[0]
        save = path.read_bytes()
        if (whose := frontmatter.conversation_id(save)) not in ("", self.ident):
            self.hindered(f"the file of {whose} stood there")
            taken = None
        else:
            older = [version for version in (*self.state.past[1:], self.state.seen) if version]
            base = mirrored.origin(save, [before, *older]) if before else b""
            taken = await self._send(save, base, self._brought(str(path), Stamp.of(path.stat())))
        if taken is None:
            workfiles.set_aside(self.mirror.directory, Path(self.path).name, path)
        path.unlink(missing_ok=True)
        del self._saves[0]

    async def _send(self, save: bytes, base: bytes, brought: bool) -> bytes | None:
        """What stands there after the save was merged; None where it was not taken."""
        said: dict[str, Any] = {"document": pack(save, base), "brought": brought}
        said["base"] = file_digest(base) if base else ""
        told, answer = self._told, await self.ask("document/save", said)
        if answer.get("known") is False:
            answer = await self.ask("document/save", {**said, "based": pack(base)})
        stands = unpack(answer.get("document"), save, LIMIT)
        self._stands(stands, told)
        if problem := answer.get("problem"):
            self.state.refused = file_digest(save)
            self._store()
            self.hindered(f"the save is not taken by {self.mirror.name}: {problem}")
            return None
        self.state.seen, self.state.past = save, ()
        return self._checked(stands)

    async def _begin_there(self, here: bytes | None) -> bool:
        """A text that was begun here becomes a conversation there."""
        if here is None:
            self.mirror.forget(self)
            return False
        if not self.state.base:  # the answer may be lost, and more be typed before it is asked again
            self.state.base = self.state.seen = here
            self._store()
        said = {"path": self.mirror.remote, "name": os.path.basename(self.path), "document": pack(here)}
        brought = not self.watched or self._brought(self.path, self._stamp)
        answer = await self.ask("document/create", {**said, "brought": brought})
        if answer.get("made") is not False:
            self.state.base = self.state.seen = here
        self.state.new = False
        self._store()
        return True

    async def _back(self, there: str | None) -> bool:
        """The file was taken away here: it comes back when there is a new turn there."""
        content = await self._fetch()
        had = {region.id for region in scan(self.state.base)}
        if any(region.part.turn and region.id not in had for region in scan(content)):
            await self._make(content)
        return False
