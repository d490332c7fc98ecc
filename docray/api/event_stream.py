"""Server-sent events over HTTP: their form, comments that keep a connection alive, and an end when the reader goes away."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from docray.api.disconnects import disconnected

KEEP_ALIVE_S = 10.0
_COMMENT = b": keep-alive\n\n"


def event(name: str, data: bytes, event_id: str | None = None) -> bytes:
    """One event. `data` is JSON, which holds no line end."""
    first = f"id: {event_id}\n" if event_id is not None else ""
    return f"{first}event: {name}\ndata: ".encode() + data + b"\n\n"


def last_seen(headers: Mapping[str, str]) -> int:
    """The version in `Last-Event-ID`, 0 for none and for what is no id of ours."""
    given = headers.get("last-event-id", "")
    return int(given) if given.isdecimal() and len(given) < 19 else 0


class Feed:
    """Pieces from a generator that runs in a task of its own: a reader that waits, comments or leaves never interrupts it half-way."""

    def __init__(self, source: AsyncGenerator[bytes, None]) -> None:
        self._source = source
        self._queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(64)
        self._peeked: list[bytes | Exception | None] = []
        self._task = asyncio.create_task(self._run())

    async def open(self) -> "Feed":
        """Waits for the first piece, which stays in the feed. Raises what the generator raised before it."""
        try:
            item = await self._queue.get()
        except BaseException:
            await self.close()
            raise
        if isinstance(item, Exception):
            raise item
        self._peeked.append(item)
        return self

    async def pieces(self, keep_alive_s: float = KEEP_ALIVE_S) -> AsyncIterator[bytes]:
        """Every piece as it comes; a comment whenever nothing came for so long. Raises what the generator raised."""
        while True:
            try:
                async with asyncio.timeout(keep_alive_s):
                    item = self._peeked.pop() if self._peeked else await self._queue.get()
            except TimeoutError:
                yield _COMMENT
                continue
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item

    async def close(self) -> None:
        """Stops the generator; its `finally` blocks have run when this returns."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        async with aclosing(self._source) as source:
            try:
                async for piece in source:
                    await self._queue.put(piece)
            except Exception as error:
                await self._queue.put(error)
                return
        await self._queue.put(None)


class EventStream(Response):
    """A response of a feed's pieces; closes the feed at its end and as soon as the client disconnects."""

    media_type = "text/event-stream"

    def __init__(self, feed: Feed, headers: Mapping[str, str] | None = None) -> None:
        self._feed = feed
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends until the feed or the client ends."""
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(disconnected(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._feed.close()
            leaving.cancel()
            if not sending.done():
                sending.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
        if not sending.cancelled():
            sending.result()

    async def _send(self, send: Send) -> None:
        with suppress(OSError):  # how some servers say that the client has gone
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for piece in self._feed.pieces():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
