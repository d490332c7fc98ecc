"""API keys of the tenant."""

from starlette.responses import Response

from docray.api import render
from docray.api.calls import Reading, Writing
from docray.api.idempotency import Remember, once, reply
from docray.api.openapi import errors
from docray.api.routes.paths import After, KeyId, Limit
from docray.api.routing import make_router, needs
from docray.api.schemas.access import ApiKey, ApiKeyList, ApiKeyWithSecret, NewApiKey
from docray.domain.catalog import Paging
from docray.domain.jobs import StoredResponse
from docray.domain.principals import Scope
from docray.security.api_keys import make_key
from docray.security.scopes import ADMINISTER

router = make_router("access")


@router.post("/v1/api-keys", status_code=201, response_model=ApiKeyWithSecret, responses=errors(400, 409, 413, 415))
@needs(ADMINISTER)
async def create_api_key(call: Writing, body: NewApiKey) -> Response:
    """Makes a key. Its secret is shown here and never again."""
    made = make_key(body.name, map(Scope, body.scopes), body.expires_at)

    async def work(remember: Remember) -> StoredResponse:
        async with call.transaction() as tx:
            key = await tx.api_keys.insert(made.key, made.secret_hash, user_id=call.principal.user_id)
            await tx.audit("api_key.create", "api_key", key.id, {"scopes": sorted(key.scopes)})
            return await remember(tx, reply(201, render.dumps(render.api_key(key, made.secret))))

    return await once(call, work)


@router.get("/v1/api-keys", response_model=ApiKeyList)
@needs(ADMINISTER)
async def list_api_keys(call: Reading, limit: Limit = 50, after: After = None) -> Response:
    """Lists keys, newest first."""
    async with call.transaction() as tx:
        found = await tx.api_keys.list(Paging(limit=limit, after=after))
    return Response(render.listing(found, render.api_key), media_type="application/json")


@router.get("/v1/api-keys/{key_id}", response_model=ApiKey)
@needs(ADMINISTER)
async def read_api_key(call: Reading, key_id: KeyId) -> Response:
    """Reads one key."""
    async with call.transaction() as tx:
        found = await tx.api_keys.get(key_id)
    return Response(render.dumps(render.api_key(found)), media_type="application/json")


@router.delete("/v1/api-keys/{key_id}", response_model=ApiKey, responses=errors(409))
@needs(ADMINISTER)
async def revoke_api_key(call: Writing, key_id: KeyId) -> Response:
    """Revokes a key: within 5 s nobody can use it any more."""

    async def work(remember: Remember) -> StoredResponse:
        async with call.transaction() as tx:
            key = await tx.api_keys.revoke(key_id)
            await tx.audit("api_key.revoke", "api_key", key_id)
            return await remember(tx, reply(200, render.dumps(render.api_key(key))))

    response = await once(call, work)
    call.parts.authenticator.forget(key_id)
    return response
