"""ETags: strong ones of ours against what a request says it has."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response


def etag(*parts: object) -> str:
    """A strong ETag of values that change whenever the representation does."""
    return '"' + "-".join(map(str, parts)) + '"'


def _tags(header: str) -> set[str]:
    return {part.strip().removeprefix("W/") for part in header.split(",")}


def not_modified(request: Request, tag: str, headers: Mapping[str, str] | None = None) -> Response | None:
    """304 when `If-None-Match` has the tag (weak comparison, RFC 9110 13.1.2) or `*`."""
    given = request.headers.get("if-none-match")
    if given is None or not (given.strip() == "*" or tag in _tags(given)):
        return None
    return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "private, no-cache", **(headers or {})})


def matches(given: str, tag: str) -> bool:
    """Whether `If-Match` or `If-Range` names exactly this tag (strong comparison) or `*`."""
    return given.strip() == "*" or tag in {part.strip() for part in given.split(",")}
