"""Bulk ingestions that `pipelines.ingest` runs: how far they are. They are started there, not here."""

import asyncio
from collections.abc import AsyncGenerator

from starlette.responses import Response

from docray.api import render
from docray.api.calls import Call, Reading
from docray.api.event_stream import EventStream, Feed, event, last_seen
from docray.api.openapi import media, parameter
from docray.api.routes.paths import After, JobId, Limit
from docray.api.routing import make_router, needs
from docray.api.schemas.jobs import Job, JobList
from docray.domain.bulk import BulkRun, RunState
from docray.domain.catalog import Paging
from docray.security.scopes import READ

router = make_router("jobs")

_PERIOD_S = 1.0


@router.get("/v1/jobs", response_model=JobList)
@needs(READ)
async def list_jobs(call: Reading, limit: Limit = 50, after: After = None) -> Response:
    """Lists bulk ingestions, newest first."""
    async with call.transaction() as tx:
        found = await tx.bulk_runs.list(Paging(limit=limit, after=after))
    return Response(render.listing(found, render.job), media_type="application/json")


@router.get("/v1/jobs/{job_id}", response_model=Job)
@needs(READ)
async def read_job(call: Reading, job_id: JobId) -> Response:
    """Reads one bulk ingestion."""
    async with call.transaction() as tx:
        found = await tx.bulk_runs.get(job_id)
    return Response(render.dumps(render.job(found)), media_type="application/json")


@router.get(
    "/v1/jobs/{job_id}/events",
    response_class=Response,
    responses=media("text/event-stream", "`progress` as it changes, last `done`, `failed` or `interrupted`", binary=False),
    openapi_extra={"parameters": [parameter("Last-Event-ID", {"type": "string"}, "Resumes after this event", where="header")]},
)
@needs(READ)
async def read_job_events(call: Reading, job_id: JobId) -> Response:
    """Follows a bulk ingestion until it ends or is interrupted."""
    seen = last_seen(call.request.headers)
    async with call.transaction() as tx:
        run = await tx.bulk_runs.get(job_id)
    return EventStream(Feed(_changes(call, run, seen)))


async def _changes(call: Call, run: BulkRun, seen: int) -> AsyncGenerator[bytes, None]:
    """Events after version `seen`; an end that was seen is told again."""
    seen = min(seen, run.version)  # an id from elsewhere must not silence the stream
    while True:
        goes_on = run.state is RunState.RUNNING
        if run.version > seen or not goes_on:
            seen = run.version
            yield event("progress" if goes_on else run.state.value, render.dumps(render.job(run)), str(seen))
        if not goes_on:
            return
        await asyncio.sleep(_PERIOD_S)
        async with call.transaction() as tx:
            run = await tx.bulk_runs.get(run.id)
