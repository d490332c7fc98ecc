"""For probes: whether the process lives, whether it can serve. Neither needs a key or tells hosts, paths or versions."""

from starlette.requests import Request
from starlette.responses import Response

from docray.api import render
from docray.api.error_responses import error_object, request_id_of
from docray.api.routing import make_router, needs
from docray.api.schemas.common import Alive, NotReady, Ready
from docray.api.services import Parts
from docray.domain.errors import Unavailable

router = make_router("health")


@router.get("/healthz", response_model=Alive)
@needs(None)
async def healthz() -> Response:
    """The process lives."""
    return Response(b'{"status":"ok"}', media_type="application/json")


@router.get("/readyz", response_model=Ready, responses={503: {"model": NotReady, "description": "It cannot serve"}})
@needs(None)
async def readyz(request: Request) -> Response:
    """Whether it can serve."""
    parts: Parts = request.app.state.parts
    health = await parts.readiness.check()
    body = {"status": health.status, "checks": health.checks}
    if health.status != "unavailable":
        return Response(render.dumps(body), media_type="application/json")
    body |= error_object(Unavailable(), request_id_of(request))
    return Response(render.dumps(body), 503, {"Retry-After": "1"}, "application/json")
