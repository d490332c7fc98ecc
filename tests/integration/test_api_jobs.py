"""Bulk runs as jobs over HTTP."""

import asyncio

from api_harness import Api, assert_error, events_of

from docray.domain.bulk import Driver, Ended, FileState, SourceFile
from docray.domain.ids import new_id


async def begun(api: Api, *names: str, lease_s: float = 60.0) -> Driver:
    """A driven run of these files."""
    async with api.services.catalog.transaction(api.principal) as tx:
        run_id = new_id()
        await tx.bulk_runs.insert(run_id, "/pdfs", None)
        driver = await tx.bulk_runs.drive(run_id, lease_s)
        await tx.bulk_runs.add_files(driver, [SourceFile(uri=f"/pdfs/{name}.pdf", size_bytes=10, etag="1") for name in names])
        await tx.bulk_runs.keep(driver, lease_s, 2.0)
    return driver


async def ended(api: Api, driver: Driver, n: int, state: FileState, **more) -> None:  # type: ignore[no-untyped-def]
    async with api.services.catalog.transaction(api.principal) as tx:
        await tx.bulk_runs.end(driver, n, Ended(state=state, **more))


async def finished(api: Api, driver: Driver, error: tuple[str, str] | None = None) -> None:
    async with api.services.catalog.transaction(api.principal) as tx:
        await tx.bulk_runs.finish(driver, error)


async def test_a_job_tells_what_became_of_its_files_and_how_long_it_will_take(api: Api) -> None:
    driver = await begun(api, "a", "b", "c", "d")
    await ended(api, driver, 0, FileState.READY, pages=6, chunks=9, size_bytes=10)
    await ended(api, driver, 1, FileState.FAILED, failure=("damaged", "It is damaged."))
    job = (await api.call("GET", f"/v1/jobs/{driver.run_id}")).json()
    assert (job["id"], job["object"], job["kind"], job["source"]) == (str(driver.run_id), "job", "bulk_ingest", "/pdfs")
    assert (job["state"], job["error"], job["ended_at"]) == ("running", None, None)
    assert job["files"] == {"total": 4, "ended": 2, "ready": 1, "failed": 1, "duplicate": 0, "known": 0}
    assert (job["pages"], job["chunks"], job["pages_per_s"], job["seconds_left"]) == (6, 9, 3.0, 2.0)
    await finished(api, driver, ("too_many_failures", "Too many."))
    job = (await api.call("GET", f"/v1/jobs/{driver.run_id}")).json()
    assert (job["state"], job["error"], job["seconds_left"]) == ("failed", {"code": "too_many_failures", "message": "Too many."}, None)
    assert job["ended_at"] is not None


async def test_a_job_whose_driver_died_is_interrupted(api: Api) -> None:
    driver = await begun(api, "a", lease_s=0.0)
    assert (await api.call("GET", f"/v1/jobs/{driver.run_id}")).json()["state"] == "interrupted"
    events = events_of((await api.call("GET", f"/v1/jobs/{driver.run_id}/events")).text)
    assert [name for name, _, _ in events] == ["interrupted"]


async def test_jobs_are_listed_newest_first_in_pages(api: Api) -> None:
    drivers = [await begun(api) for _ in range(3)]
    page = (await api.call("GET", "/v1/jobs?limit=2")).json()
    rest = (await api.call("GET", f"/v1/jobs?limit=2&after={page['next_cursor']}")).json()
    assert [job["id"] for job in (*page["data"], *rest["data"])] == [str(driver.run_id) for driver in reversed(drivers)]
    assert (page["has_more"], rest["has_more"]) == (True, False)


async def test_events_tell_progress_and_end_with_done(api: Api) -> None:
    driver = await begun(api, "a")
    following = asyncio.create_task(api.call("GET", f"/v1/jobs/{driver.run_id}/events"))
    await asyncio.wait({following}, timeout=0.5)
    await ended(api, driver, 0, FileState.READY, pages=1)
    await asyncio.wait({following}, timeout=1.5)
    await finished(api, driver)
    events = events_of((await asyncio.wait_for(following, 20)).text)
    assert {name for name, _, _ in events[:-1]} == {"progress"}
    assert [data["files"]["ended"] for _, data, _ in events] == sorted(data["files"]["ended"] for _, data, _ in events)
    assert (events[-1][0], events[-1][1]["state"], events[-1][1]["files"]["ready"]) == ("done", "done", 1)


async def test_an_absent_job_is_not_found(api: Api) -> None:
    for path in (f"/v1/jobs/{new_id()}", f"/v1/jobs/{new_id()}/events", "/v1/jobs/none"):
        assert_error(await api.call("GET", path), 404, "not_found")
