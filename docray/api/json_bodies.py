"""Reads a JSON body: its type, its size, its syntax. What it means is the models' business."""

import asyncio
import json
from collections.abc import AsyncIterator
from email.message import Message
from typing import Any, NoReturn

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope

from docray.domain.errors import InvalidRequest, MalformedJson, TooLarge, UnsupportedContentType

_SILENCE = "The body stopped arriving. Send the request again."
BODY_SILENCE_S = 60.0
"""A body of which nothing arrives for so long is given up, so that stalled senders do not hold places of others."""


class JsonRequest(Request):
    """A request whose JSON body is read and decoded; FastAPI finds it here."""

    def __init__(self, scope: Scope, receive: Receive, raw: bytes, value: Any) -> None:
        super().__init__(scope, receive)
        self.raw = raw
        self.value = value

    async def body(self) -> bytes:
        """The bytes as they came."""
        return self.raw

    async def json(self) -> Any:
        """The decoded value."""
        return self.value


async def read_json(request: Request, max_bytes: int) -> JsonRequest:
    """The request with its body. UnsupportedContentType, TooLarge or MalformedJson for what is none; an empty body is None."""
    raw = await _read(request, max_bytes)
    if not raw:
        return JsonRequest(request.scope, request.receive, b"", None)
    if not is_json(request.headers.get("content-type", "")):
        raise UnsupportedContentType("Send the body as JSON, with `Content-Type: application/json`.")
    return JsonRequest(request.scope, request.receive, raw, decode_json(raw))


def is_json(content_type: str) -> bool:
    """Whether a Content-Type is JSON."""
    if content_type == "application/json":
        return True
    message = Message()
    message["content-type"] = content_type
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (subtype == "json" or subtype.endswith("+json"))


def decode_json(raw: bytes) -> Any:
    """The value of JSON in UTF-8. MalformedJson for what is none: wrong bytes, nesting beyond 1,024 levels, infinite numbers.

    Half a surrogate pair (`"\\ud800"`) is correct JSON that orjson refuses: it is decoded, so that the field that holds it can be named.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if b"\\u" not in raw:
            raise MalformedJson from error
    try:
        return json.loads(raw.decode(), parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise MalformedJson from error


async def _read(request: Request, max_bytes: int) -> bytes:
    if declared_length(request) > max_bytes:
        raise TooLarge("The body is larger than this call accepts.")
    raw = b""
    try:
        async with asyncio.timeout(BODY_SILENCE_S):  # of the whole, which is small
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                raw += bytes(message.get("body", b""))
                if len(raw) > max_bytes:
                    raise TooLarge("The body is larger than this call accepts.")
                if not message.get("more_body", False):
                    return raw
    except TimeoutError as error:
        raise MalformedJson(_SILENCE) from error


def declared_length(request: Request) -> int:
    """The Content-Length, 0 where none is given."""
    text = request.headers.get("content-length", "")
    return int(text) if text.isdecimal() else 0


async def body_of(request: Request, silence: type[InvalidRequest]) -> AsyncIterator[bytes]:
    """The pieces of a body as they arrive. ClientDisconnect when the sender goes away, `silence` when it sends nothing for too long."""
    pieces = request.stream().__aiter__()
    while True:
        try:
            async with asyncio.timeout(BODY_SILENCE_S):
                piece = await pieces.__anext__()
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise silence(_SILENCE) from error
        if piece:
            yield piece


def _refuse(_: str) -> NoReturn:
    raise ValueError("no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("no finite number")
    return value
