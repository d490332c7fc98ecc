"""A language model's HTTP server on a free port: speaks OpenAI's and Anthropic's wire formats, says what a test tells it to, records requests."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

ANSWER = ("The harbour ", "opened in 1901 ", "[1].")


@dataclass
class LlmServer:
    """What it does and what it was asked. `refusals` are (status, body, headers) given first, one a request."""

    pieces: Sequence[str] = ANSWER
    refusals: list[tuple[int, Mapping[str, Any], Mapping[str, str]]] = field(default_factory=list)
    reports_usage: bool = True
    finishes: bool = True  # else the connection ends in the middle
    says_done: bool = True  # OpenAI's `[DONE]`
    error_after: int | None = None  # pieces after which an error event is sent
    stalls_after: int | None = None  # pieces after which nothing comes any more
    garbage: bytes = b""  # is sent as an event of its own
    requests: list[tuple[str, Mapping[str, str], dict[str, Any]]] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)  # the client closed the connection before the end
    port: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        try:
            path, headers, body = await _read(reader)
            self.requests.append((path, headers, body))
            if self.refusals:
                await _refuse(writer, *self.refusals.pop(0))
            else:
                await self._stream(reader, writer, _anthropic if path.endswith("/messages") else _openai)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left.set()
        finally:
            writer.close()

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wire: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
        for count, event in enumerate(wire(self)):
            if self.stalls_after is not None and count > self.stalls_after:
                await reader.read()  # ends when the client goes
                self.left.set()
                return
            # Cut in the middle, as networks do.
            for part in (event[: len(event) // 2], event[len(event) // 2 :]):
                writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                await writer.drain()
        if self.finishes:
            writer.write(b"0\r\n\r\n")
        await writer.drain()


@asynccontextmanager
async def running(server: LlmServer) -> AsyncIterator[str]:
    """The server's URL while it runs."""
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield f"http://127.0.0.1:{server.port}"


async def _read(reader: asyncio.StreamReader) -> tuple[str, Mapping[str, str], dict[str, Any]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
    body = await reader.readexactly(int(headers["content-length"]))
    return head[0].split()[1], headers, json.loads(body)


async def _refuse(writer: asyncio.StreamWriter, status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    data = json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status} Refused",
        f"Content-Length: {len(data)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
    await writer.drain()


def _openai(server: LlmServer) -> list[bytes]:
    events: list[Any] = [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}]
    events += [{"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]} for piece in server.pieces]
    if server.error_after is not None:
        events[server.error_after + 1 :] = [{"error": {"message": "secret details of the provider"}}]
        return _data(events)
    if not server.finishes:
        return _data(events)
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if server.reports_usage:
        events.append({"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 200}})
    found = _data(events)
    if server.garbage:
        found.insert(1, b"data: " + server.garbage + b"\n\n")
    return [*found, *([b"data: [DONE]\n\n"] if server.says_done else [])]


def _anthropic(server: LlmServer) -> list[bytes]:
    usage = {"input_tokens": 900, "cache_read_input_tokens": 100, "output_tokens": 1} if server.reports_usage else {}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"role": "assistant", "usage": usage}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}} for piece in server.pieces),
    ]
    if server.error_after is not None:
        events[server.error_after + 1 :] = [{"type": "error", "error": {"type": "overloaded_error", "message": "secret details of the provider"}}]
    elif server.finishes:
        last = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 200} if server.reports_usage else {}}
        events += [{"type": "ping"}, {"type": "content_block_stop", "index": 0}, last, {"type": "message_stop"}]
    found = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
    return [found[0], b"data: " + server.garbage + b"\n\n", *found[1:]] if server.garbage else found


def _data(events: Sequence[Any]) -> list[bytes]:
    return [f": comment\r\ndata: {json.dumps(event)}\r\n\r\n".encode() for event in events]
