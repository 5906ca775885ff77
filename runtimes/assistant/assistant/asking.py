"""One request to a model over HTTP: streamed, tried again where that may help, each wait said. It reads no answer itself."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

import httpx2

from assistant.chatapi import said
from assistant.endpoint import Endpoint
from assistant.talk import Answer, Ask, BrokenAnswer
from assistant.waits import LONGEST_ASKED, back_off, retry_after

TRIES = 6
AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
TIMEOUT = httpx2.Timeout(30.0, read=300.0)
ERROR_BYTES = 64 * 1024

Show = Callable[[str, str], None]  # text or thought, and the words
Tell = Callable[[str], None]


class EndpointError(Exception):
    """The endpoint does not answer as it should; the sentence is for a person. `too_long`: the conversation does not fit."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status
        words = sentence.lower()
        self.too_long = status in (400, 413) and any(each in words for each in ("context", "too long", "too large", "maximum"))


class _Again(Exception):
    """It may work later. `wait`: what the endpoint asks for, or None."""

    def __init__(self, sentence: str, wait: float | None = None) -> None:
        super().__init__(sentence)
        self.wait = wait


class Model:
    """Asks one endpoint after the other question; one client for all, so that connections are kept."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._client: httpx2.AsyncClient | None = None
        self._sleep = sleep

    async def ask(self, endpoint: Endpoint, ask: Ask, show: Show, tell: Tell) -> Answer:
        """Raises EndpointError. What was shown of an answer that broke off stays shown; `tell` says that it is asked again."""
        for number in range(1, TRIES + 1):
            try:
                return await self._once(endpoint, ask, show)
            except _Again as error:
                wait = error.wait if error.wait is not None else back_off(number)
                if number == TRIES:
                    raise EndpointError(f"{error}; it was asked {TRIES} times") from error
                if wait > LONGEST_ASKED:
                    raise EndpointError(
                        f"{error}; it asks to wait {wait:.0f} seconds, which is too long to wait for here"
                    ) from error
                tell(f"{error}; asked again in {wait:.1f} seconds (try {number + 1} of {TRIES})")
                await self._sleep(wait)
        raise AssertionError("unreachable")

    async def _once(self, endpoint: Endpoint, ask: Ask, show: Show) -> Answer:
        if self._client is None:
            self._client = httpx2.AsyncClient(timeout=TIMEOUT)
        headers = {"content-type": "application/json", "accept": "text/event-stream", **endpoint.api.headers(endpoint.key)}
        content = json.dumps(endpoint.api.body(ask)).encode("utf-8", "replace")
        try:
            async with self._client.stream("POST", endpoint.url, headers=headers, content=content) as response:
                if response.status_code != 200:
                    raise await _refused(response)
                return await _streamed(endpoint, response, show)
        except httpx2.TransportError as error:
            raise _Again(f"{_host(endpoint)} cannot be reached or broke off ({_short(error)})") from error
        except BrokenAnswer as error:
            raise _Again(f"the answer of {_host(endpoint)} cannot be used: {error}") from error

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()


async def _streamed(endpoint: Endpoint, response: httpx2.Response, show: Show) -> Answer:
    assembly = endpoint.api.assembly()
    async for event in httpx2.EventSource(response):
        if event.data.strip() in ("", "[DONE]"):
            continue
        try:
            body = json.loads(event.data)
        except (ValueError, RecursionError) as error:
            raise BrokenAnswer("an event is no JSON") from error
        if not isinstance(body, dict):
            raise BrokenAnswer("an event is no object")
        try:
            for kind, words in assembly.feed(body):
                show(kind, words)
        except (AttributeError, TypeError) as error:
            raise BrokenAnswer("an event has another form than the interface says") from error
    return assembly.answer()


async def _refused(response: httpx2.Response) -> Exception:
    """What to raise for a status that is no success."""
    data = b""
    async for piece in response.aiter_bytes():
        data += piece
        if len(data) > ERROR_BYTES:
            break
    try:
        body = json.loads(data)
        sentence = said(body.get("error", body) if isinstance(body, dict) else body)
    except (ValueError, RecursionError):
        sentence = data.decode("utf-8", "replace").strip()[:300] or "no reason given"
    words = f"the endpoint answers {response.status_code}: {sentence}"
    if response.status_code in AGAIN:
        return _Again(words, retry_after(response.headers.get("retry-after", ""), time.time()))
    return EndpointError(words, response.status_code)


def _host(endpoint: Endpoint) -> str:
    return str(httpx2.URL(endpoint.url).netloc, "ascii", "replace")


def _short(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:200]
