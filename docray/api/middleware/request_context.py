"""The outermost wrapper: gives each request its id, writes its log line, and turns what nobody expected into the one error shape."""

import re
import time
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from docray.api.error_responses import error_response
from docray.domain.errors import DocrayError
from docray.domain.ids import new_id

log = structlog.get_logger(__name__)

_GOOD_ID = re.compile(rb"[!-~]{1,128}")
_SMALL_BODY_BYTES = 1 << 20


class RequestContext:
    """Wraps the app. `scope["state"]["request_id"]` holds the id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        with structlog.contextvars.bound_contextvars(request_id=exchange.request_id):
            try:
                await self._app(scope, exchange.receive, exchange.send)
            except ClientDisconnect:
                exchange.gone = True
            except Exception as error:
                log.error("a request failed and nobody expected it", action="request_broke", exc_info=error)
                if exchange.status:
                    raise  # too late for an answer: the server cuts the connection, so that nobody takes the part for the whole
                await error_response(DocrayError(), exchange.request_id)(scope, exchange.receive, exchange.send)
            finally:
                exchange.log()


class _Exchange:
    """One request and its response as they pass."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        self.request_id = given.decode() if _GOOD_ID.fullmatch(given) else str(new_id())
        scope["state"] = {**scope.get("state", {}), "request_id": self.request_id}
        self.status = 0
        self.gone = False
        self._scope = scope
        self._receive = receive
        self._send = send
        self._started = time.perf_counter()
        self._body_read = False

    async def receive(self) -> Message:
        """The app's next message of the body."""
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._body_read = True
        return message

    async def send(self, message: Message) -> None:
        """The app's next message of the response."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode())]
            if self.status >= 400 and not self._body_read and self._has_large_body():
                message["headers"].append((b"connection", b"close"))  # rather than read on what was refused
        await self._send(message)

    def _has_large_body(self) -> bool:
        headers = dict(self._scope["headers"])
        length = headers.get(b"content-length", b"")
        return b"transfer-encoding" in headers or (length.isdigit() and int(length) > _SMALL_BODY_BYTES)

    def log(self) -> None:
        """The request's line. The path is the route's pattern: what was asked for stays out."""
        route = self._scope.get("route")
        principal = self._scope["state"].get("principal")
        fields: dict[str, Any] = {"principal_id": str(principal.id), "tenant_id": str(principal.tenant_id)} if principal else {}
        log.info(
            "answered" if not self.gone else "the caller went away",
            action="request",
            method=self._scope["method"],
            route=getattr(route, "path", None),
            status=self.status,
            duration_ms=round((time.perf_counter() - self._started) * 1000, 2),
            **fields,
        )


