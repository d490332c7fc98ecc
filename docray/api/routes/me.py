"""Who asks, and what limits are in force."""

from starlette.responses import Response

from docray.api import render
from docray.api.calls import Reading
from docray.api.routing import make_router, needs
from docray.api.schemas.access import Me
from docray.security.scopes import SIGNED_IN

router = make_router("access")


@router.get("/v1/me", response_model=Me)
@needs(SIGNED_IN)
async def read_me(call: Reading) -> Response:
    """Tells the caller's principal, tenant, scopes and limits."""
    return Response(render.dumps(render.me(call.principal, call.services.settings)), media_type="application/json")
