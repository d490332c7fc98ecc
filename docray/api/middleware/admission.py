"""How much is at work at once. What does not fit is refused at once with 429 and Retry-After: waiting here would only hide the load."""

from starlette.types import ASGIApp, Receive, Scope, Send

from docray.api.error_responses import error_response
from docray.domain.errors import Overloaded

_ALWAYS = frozenset({"/healthz", "/readyz"})
_EVENT_STREAMS_PER_REQUEST = 4  # they wait most of the time


class Admission:
    """Wraps the app. Streams of document events, which stay open for minutes, have a limit of their own."""

    def __init__(self, app: ASGIApp, *, max_requests: int) -> None:
        self._app = app
        self._limits = {"work": max_requests, "events": max_requests * _EVENT_STREAMS_PER_REQUEST}
        self._at_work = {"work": 0, "events": 0}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets one request in, or refuses it."""
        if scope["type"] != "http" or scope["path"] in _ALWAYS:
            await self._app(scope, receive, send)
            return
        kind = "events" if scope["method"] == "GET" and scope["path"].endswith("/events") else "work"
        if self._at_work[kind] >= self._limits[kind]:
            await error_response(Overloaded(retry_after_s=1.0), scope["state"]["request_id"])(scope, receive, send)
            return
        self._at_work[kind] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._at_work[kind] -= 1
