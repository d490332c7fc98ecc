"""Tenants, made by the platform's operator."""

from datetime import UTC, datetime

from starlette.responses import Response

from docray.api import render
from docray.api.calls import Writing
from docray.api.idempotency import Remember, once, reply
from docray.api.openapi import errors
from docray.api.routing import make_router, needs
from docray.api.schemas.access import NewTenant, Tenant
from docray.domain import principals as domain
from docray.domain.ids import new_id
from docray.domain.jobs import StoredResponse
from docray.security.api_keys import make_key
from docray.security.scopes import OPERATE

router = make_router("access")


@router.post("/v1/tenants", status_code=201, response_model=Tenant, responses=errors(400, 409, 413, 415))
@needs(OPERATE)
async def create_tenant(call: Writing, body: NewTenant) -> Response:
    """Makes a tenant with its admin's key."""
    made = make_key("admin", [domain.Scope.ADMIN])

    async def work(remember: Remember) -> StoredResponse:
        # The new tenant's rows and the caller's are of two tenants, so this is the one write whose answer is stored after its effect.
        # Between the two a crash leaves a tenant whose key nobody has; the same request then gets `duplicate_name`.
        wanted = domain.Tenant(id=new_id(), name=body.name, created_at=datetime.now(UTC))
        tenant = await call.services.tenants.create(wanted, made.key, made.secret_hash, operator=False)
        async with call.transaction() as tx:
            await tx.audit("tenant.create", "tenant", tenant.id)
            return await remember(tx, reply(201, render.dumps(render.tenant(tenant, made.key, made.secret))))

    return await once(call, work)
