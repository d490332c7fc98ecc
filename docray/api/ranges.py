"""Byte ranges of one file (RFC 9110 14): which bytes a request wants, and sending them in pieces from the disk."""

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from docray.domain.errors import RangeNotSatisfiable

_SINGLE = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)", re.I)
_PIECE_BYTES = 256 << 10


def wanted(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte of a single range; None means the whole file: no range, one that is malformed, or several.

    RangeNotSatisfiable when it begins beyond the end.
    """
    found = _SINGLE.fullmatch(header.strip()) if header else None
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if len(first) > 18 or len(last) > 18:  # beyond any file; int() of a digit string as long as a header takes its time
        first, last = first[:18], last[:18] and "9" * 18
    if not first:
        if int(last) == 0:
            raise RangeNotSatisfiable
        return max(0, size - int(last)), size - 1
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise RangeNotSatisfiable
    return int(first), min(int(last), size - 1) if last else size - 1


class FileSlice(Response):
    """Bytes `first` to `last` of a file that is open before the answer begins: a purge meanwhile does not cut it short."""

    def __init__(self, path: Path, first: int, last: int, *, status: int, headers: Mapping[str, str], media_type: str) -> None:
        self._file = path.open("rb")
        self._first = first
        self._left = last - first + 1
        self.status_code = status
        self.media_type = media_type
        self.background = None
        self.init_headers({**headers, "Content-Length": str(self._left)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the pieces; reads happen in a thread."""
        with self._file as file:
            file.seek(self._first)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while self._left:
                piece = await asyncio.to_thread(file.read, min(self._left, _PIECE_BYTES))
                if not piece:
                    raise EOFError("a blob is shorter than its row says")
                self._left -= len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": self._left > 0})
