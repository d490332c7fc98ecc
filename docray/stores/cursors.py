"""Cursors of lists: where a page ended, as opaque text. They hold a time and an id, nothing that would show another tenant's rows."""

import base64
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from docray.domain.catalog import Listing, Paging
from docray.domain.errors import InvalidField

T = TypeVar("T")

Place = tuple[datetime, UUID]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAYOUT = struct.Struct(">cq16s")


def encode(kind: str, place: Place) -> str:
    """The cursor after the row of that time (to the microsecond) and id. `kind` is one letter: which list it belongs to."""
    at, identity = place
    packed = _LAYOUT.pack(kind.encode(), (at - _EPOCH) // timedelta(microseconds=1), identity.bytes)
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode(kind: str, cursor: str | None) -> Place | tuple[None, None]:
    """The place of a cursor, nothing for None. InvalidField with param `after` where it is no cursor of this list."""
    if cursor is None:
        return None, None
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        letter, microseconds, identity = _LAYOUT.unpack(packed)
        place = (_EPOCH + timedelta(microseconds=microseconds), UUID(bytes=identity))
    except (ValueError, struct.error, OverflowError) as error:
        raise _no_cursor() from error
    if letter != kind.encode() or encode(kind, place) != cursor:
        raise _no_cursor()
    return place


def page_of(kind: str, rows: Sequence[Any], items: Sequence[T], paging: Paging, *, at: str, identity: str = "id") -> Listing[T]:
    """A list's page of rows read with one more than the limit: the extra one only tells that there are more."""
    if len(rows) <= paging.limit:
        return Listing(items)
    last = rows[paging.limit - 1]
    return Listing(items[: paging.limit], encode(kind, (last[at], last[identity])))


def _no_cursor() -> InvalidField:
    return InvalidField("This is no cursor of this list. Send the `next_cursor` of its previous page.", "after")
