"""Kinds of fields: ids in their one form, text that PostgreSQL can store, times of RFC 3339, JSON objects."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from docray.domain.ids import parse_id

_MAX_DEPTH = 64  # of metadata; orjson writes 254 levels, a patch applies level by level
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


class Body(BaseModel):
    """A request body: no field beyond those named, no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Object(BaseModel):
    """An object of an answer, for OpenAPI. Fields may be added in later versions."""

    model_config = ConfigDict(extra="allow")


def _id(value: Any) -> UUID:
    found = value if isinstance(value, UUID) else parse_id(value)
    if found is None:
        raise ValueError("This is no id. Ids are UUIDs, as docray gave them.")
    return found


def _time(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ValueError("This is no time. Write it as RFC 3339, such as 2026-01-31T12:00:00Z.")
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("There is no such time.") from error


def storable(value: Any) -> Any:
    """A JSON value, unchanged; ValueError for what cannot be stored: NUL, half a surrogate pair, too many levels, huge numbers."""
    waiting = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ValueError(f"It is nested deeper than {_MAX_DEPTH} levels.")
        if isinstance(item, str):
            _check_text(item)
        elif isinstance(item, dict):
            for name in item:
                _check_text(name)
            waiting += [(inner, depth + 1) for inner in item.values()]
        elif isinstance(item, list):
            waiting += [(inner, depth + 1) for inner in item]
        elif isinstance(item, int) and item.bit_length() > 64:
            raise ValueError("A whole number in it has more than 64 bits.")
    return value


def _check_text(text: str) -> None:
    if "\x00" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("A text in it holds a NUL character or half of a surrogate pair.")


Id = Annotated[UUID, BeforeValidator(_id)]
Time = Annotated[datetime, BeforeValidator(_time)]
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Name = Annotated[str, Field(pattern=r"^[^\x00]*$", min_length=1, max_length=200)]
Title = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=2000)]
Description = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=10_000)]
JsonObject = Annotated[dict[str, Any], AfterValidator(storable)]
Box = Annotated[list[float], Field(min_length=4, max_length=4, description="[x0, y0, x1, y1] in points, origin top left of the page as displayed")]
