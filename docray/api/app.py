"""Builds the app. Nothing happens on import; tests, uvicorn and Ray Serve all use `create_app`."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from docray import __version__
from docray.api.docs_page import docs
from docray.api.error_responses import on_docray_error, on_http_exception, on_validation_error
from docray.api.middleware.admission import Admission
from docray.api.middleware.request_context import RequestContext
from docray.api.middleware.security_headers import SecurityHeaders
from docray.api.openapi import complete
from docray.api.routes import api_keys, ask, collections, content, documents, events, health, jobs, me, pages, reindexes, search, status, tenants
from docray.api.services import Parts, Services
from docray.domain.errors import DocrayError
from docray.settings import Settings

Hook = Callable[[], Awaitable[None]]

# The busiest first: one by one.
_ROUTERS = (search, ask, documents, content, pages, events, collections, jobs, reindexes, api_keys, tenants, me, status, health)


class _App(FastAPI):
    """FastAPI whose description names the bearer scheme and the filter."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made once."""
        if self.openapi_schema is None:
            found = super().openapi()
            complete(found)
            self.openapi_schema = found
        return self.openapi_schema


def create_app(
    services: Services | Callable[[], Awaitable[Services]],
    *,
    settings: Settings | None = None,
    on_start: Sequence[Hook] = (),
    on_stop: Sequence[Hook] = (),
) -> FastAPI:
    """The app over services, or over what opens them in the loop that serves (then `settings` are needed at once, for the limits).

    At start: `services()`, then each of `on_start` in order. At the end: each of `on_stop` in reverse order, all of them even if one fails.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for hook in on_stop:
                stack.push_async_callback(hook)
            if not isinstance(services, Services):
                app.state.parts = Parts.of(await services())
            for hook in on_start:
                await hook()
            yield

    if settings is None:
        if not isinstance(services, Services):
            raise TypeError("settings are needed where services are opened later")
        settings = services.settings
    app = _App(
        title="docray",
        version=__version__,
        summary="Questions over PDFs, answered with citations that are right.",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
        exception_handlers={
            DocrayError: on_docray_error,
            RequestValidationError: on_validation_error,
            HTTPException: on_http_exception,
        },
    )
    if isinstance(services, Services):
        app.state.parts = Parts.of(services)
    app.add_route("/docs", docs, include_in_schema=False)
    for module in _ROUTERS:
        app.include_router(module.router)
    app.add_middleware(Admission, max_requests=settings.max_concurrent_requests)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestContext)  # the last one added is the outermost
    return app


def _operation_id(route: APIRoute) -> str:
    """The endpoint's name, which is unique and stays."""
    return route.name
