"""How the tenant's documents stand, in numbers. Not in the contract's first version: an addition that `docray status` uses."""

from starlette.responses import Response

from docray.api import render
from docray.api.calls import Reading
from docray.api.routing import make_router, needs
from docray.api.schemas.documents import CorpusStatus
from docray.security.scopes import READ

router = make_router("documents")


@router.get("/v1/status", response_model=CorpusStatus)
@needs(READ)
async def read_status(call: Reading) -> Response:
    """Counts the tenant's documents by state."""
    async with call.transaction() as tx:
        counts = await tx.documents.count_by_state()
    return Response(render.dumps({"object": "status", "documents": dict(counts)}), media_type="application/json")
