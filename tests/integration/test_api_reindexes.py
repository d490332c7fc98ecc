"""Reindexes over HTTP and from the command line, over the real catalogue, with the workers' steps done by hand."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from api_harness import Api, assert_error, until
from catalog_factories import take_to

from docray.domain.documents import Failure, FailureCode, State
from docray.domain.ids import new_id
from docray.instance.ports import any_free
from docray.stores.postgres_reindex_planner import PostgresReindexPlanner

ROOT = Path(__file__).resolve().parents[2]
FIELDS = {"id", "object", "state", "switch", "collection_id", "model", "model_before", "documents", "pages", "created_at", "switched_at", "ended_at"}


@pytest.fixture
def planner(worker_database) -> PostgresReindexPlanner:
    return PostgresReindexPlanner(worker_database)


async def build(api: Api, planner: PostgresReindexPlanner, *, failing: int = 0) -> None:
    """What workers would do."""
    lease = None
    while await planner.plan() or (lease := await api.queue.lease("harness", 60.0, ["m"])):
        while lease or (lease := await api.queue.lease("harness", 60.0, ["m"])):
            if failing:
                failing -= 1
                await api.queue.fail(lease, Failure.of(FailureCode.DEPENDENCY))
            else:
                await take_to(api.queue, lease, State.READY, await api.queue.source_pages(lease))
            lease = None


async def grown_old(superuser) -> None:
    await superuser.execute("UPDATE docray.reindexes SET created_at = created_at - interval '10 s'")


async def step(api: Api, reindex: dict[str, Any], what: str, **options: Any) -> dict[str, Any]:
    response = await api.call("POST", f"/v1/reindexes/{reindex['id']}/{what}", **options)
    assert response.status_code == 200, response.text
    return response.json()  # type: ignore[no-any-return]


async def test_a_reindex_goes_from_start_to_finish_and_tells_how_far_it_is(api: Api, planner, superuser) -> None:
    document = await api.added()
    etag = (await api.call("GET", f"/v1/documents/{document['id']}")).headers["etag"]
    response = await api.call("POST", "/v1/reindexes", json={})
    made = response.json()
    assert (response.status_code, set(made)) == (201, FIELDS)
    assert (made["object"], made["state"], made["switch"], made["model"], made["model_before"]) == ("reindex", "building", "tenant", "m", "m")
    assert made["documents"] == {"total": 1, "done": 0, "built": 0, "failed": 0, "waiting": 1}
    assert made["pages"] == {"total": 2, "done": 0}
    await build(api, planner)
    read = (await api.call("GET", f"/v1/reindexes/{made['id']}")).json()
    assert (read["documents"]["built"], read["documents"]["waiting"], read["pages"]["done"]) == (1, 0, 2)
    assert (await api.call("GET", f"/v1/documents/{document['id']}")).headers["etag"] == etag
    await grown_old(superuser)
    switched = await step(api, made, "switch")
    assert (switched["state"], switched["documents"]["done"]) == ("switched", 1)
    assert (await api.call("GET", f"/v1/documents/{document['id']}")).json()["generation"] == 2
    assert await step(api, made, "switch") == switched  # once more: nothing happens
    finished = await step(api, made, "finish")
    assert (finished["state"], finished["documents"]) == ("finished", None)
    assert finished["ended_at"] is not None
    actions = await superuser.fetch("SELECT action, principal_id FROM docray.audit_log WHERE object_kind = 'reindex' ORDER BY at")
    assert [row["action"] for row in actions] == [f"reindex.{what}" for what in ("start", "switch", "switch", "finish")]
    assert {row["principal_id"] for row in actions} == {api.principal.id}


async def test_a_rollback_goes_back_and_the_content_stays_readable(api: Api, planner, superuser) -> None:
    document = await api.added()
    made = (await api.call("POST", "/v1/reindexes", json={})).json()
    await build(api, planner)
    await grown_old(superuser)
    await step(api, made, "switch")
    assert (await step(api, made, "rollback"))["state"] == "rolled_back"
    assert (await api.call("GET", f"/v1/documents/{document['id']}")).json()["generation"] == 1
    assert (await api.call("GET", f"/v1/documents/{document['id']}/content")).status_code == 200


async def test_conflicts_say_what_to_do(api: Api, planner, superuser) -> None:
    await api.added()
    made = (await api.call("POST", "/v1/reindexes", json={})).json()
    path = f"/v1/reindexes/{made['id']}"
    assert_error(await api.call("POST", "/v1/reindexes", json={}), 409, "reindex_under_way")
    assert_error(await api.call("POST", f"{path}/switch"), 409, "reindex_not_built")
    assert_error(await api.call("POST", f"{path}/finish"), 409, "reindex_not_switched")
    await build(api, planner, failing=1)
    await grown_old(superuser)
    refused = await api.call("POST", f"{path}/switch", json={"accept_failures": False})
    assert_error(refused, 409, "reindex_not_built")
    assert "Retry them" in refused.json()["error"]["message"]
    retried = await step(api, made, "retry")
    assert retried["documents"]["waiting"] == 1
    await step(api, made, "rollback")
    assert_error(await api.call("POST", f"{path}/rollback"), 409, "reindex_ended")


async def test_bad_requests_are_refused(api: Api) -> None:
    assert_error(await api.call("POST", "/v1/reindexes", json={"switch": "now"}), 422, "invalid_field", "switch")
    assert_error(await api.call("POST", "/v1/reindexes", json={"collection_id": str(new_id())}), 404, "not_found")
    assert (await api.call("GET", "/v1/reindexes")).json()["data"] == []
    for method, path in (("GET", ""), ("POST", "/switch"), ("POST", "/rollback"), ("POST", "/finish"), ("POST", "/retry")):
        assert_error(await api.call(method, f"/v1/reindexes/{new_id()}{path}"), 404, "not_found")


async def test_they_are_listed_newest_first_and_an_idempotent_start_is_one(api: Api) -> None:
    ids = []
    for _ in range(3):
        headers = {"Idempotency-Key": str(new_id())}
        first = await api.call("POST", "/v1/reindexes", json={}, headers=headers)
        assert (await api.call("POST", "/v1/reindexes", json={}, headers=headers)).json() == first.json()
        ids.append(first.json()["id"])
        await step(api, first.json(), "rollback")
    page = (await api.call("GET", "/v1/reindexes?limit=2")).json()
    rest = (await api.call("GET", f"/v1/reindexes?limit=2&after={page['next_cursor']}")).json()
    assert [one["id"] for one in (*page["data"], *rest["data"])] == ids[::-1]


# --- the command line -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def url(api: Api) -> AsyncIterator[str]:
    """The same app behind a port."""
    port = any_free(1)[0]
    server = uvicorn.Server(uvicorn.Config(api.app, host="127.0.0.1", port=port, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    await until(lambda: asyncio.sleep(0, server.started))
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await serving


async def docray(api: Api, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line as a process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DOCRAY_")}
    environment = kept | {"DOCRAY_URL": url, "DOCRAY_API_KEY": api.secret, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "docray.cli.main", "reindex", *words]
    return await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, text=True, timeout=60, check=False)


async def told(api: Api, url: str, *words: str) -> Any:
    """Its JSON, after it ended well."""
    done = await docray(api, url, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_the_command_line_leads_through_a_reindex(api: Api, url: str, planner, superuser) -> None:
    nothing = await docray(api, url, "status")
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "docray reindex start" in nothing.stderr
    document = await api.added()
    building = asyncio.create_task(docray(api, url, "start", "--wait", "--json"))
    await until(lambda: planner.plan())
    await grown_old(superuser)
    await build(api, planner)
    lines = [json.loads(line) for line in (await building).stdout.splitlines()]
    assert [line["event"] for line in lines] == ["progress"] * (len(lines) - 1) + ["done"]
    assert lines[0]["reindex"]["documents"]["waiting"] == 1
    assert lines[-1]["reindex"]["documents"]["built"] == 1
    started = lines[0]["reindex"]["id"]
    assert (await told(api, url, "status"))["id"] == started
    said = await docray(api, url, "status", started)
    assert "1 documents: 0 done, 1 built, 0 failed, 0 waiting; 2 of 2 pages" in said.stdout
    assert "docray reindex switch" in said.stderr
    assert (await told(api, url, "switch"))["state"] == "switched"
    assert (await api.call("GET", f"/v1/documents/{document['id']}")).json()["generation"] == 2
    assert (await told(api, url, "rollback"))["state"] == "rolled_back"
    assert (await api.call("GET", f"/v1/documents/{document['id']}")).json()["generation"] == 1
    ended = await docray(api, url, "finish")
    assert (ended.returncode, ended.stderr.strip()) == (1, "This reindex has ended. Start another one.")


async def test_exit_codes_of_the_command_line(api: Api, url: str, planner) -> None:
    assert (await docray(api, url, "start", "--switch", "later")).returncode == 2
    assert (await docray(api, url, "start", "--collection", "nowhere")).returncode == 1
    poor = type("Key", (), {"secret": await api.key("search")})
    assert (await docray(poor, url, "start")).returncode == 4  # type: ignore[arg-type]
    assert (await docray(api, f"http://127.0.0.1:{any_free(1)[0]}", "status")).returncode == 3
    for _ in range(2):
        await api.added()
    building = asyncio.create_task(docray(api, url, "start", "--wait", "--json"))
    await until(lambda: planner.plan())
    await build(api, planner, failing=1)
    assert (await building).returncode == 5
