"""B2 and clock jumps: leases and claims go by the database's clock, so processes whose own is an hour off neither lease twice nor lose."""

import asyncio
import time
from uuid import UUID

from tests import oracle
from tests.resilience.conftest import NewSite
from tests.resilience.site import shift_clock
from tests.resilience.story import a_pdf

HOUR_S = 3600.0
DOCUMENTS = 18


async def test_workers_and_gateways_an_hour_apart_share_the_work_and_the_answers(new_site: NewSite) -> None:
    async with new_site(lease_s=30.0, heartbeat_s=0.5) as site:
        processes = [site.start(clock_off_s=seconds) for seconds in (HOUR_S, -HOUR_S, 0.0)]
        uploads = []
        for number in range(DOCUMENTS):
            options = {"content": a_pdf(f"clock {number}"), "headers": {"Content-Type": "application/pdf"}}
            answers = []
            for process in (processes[number % 3], processes[(number + 1) % 3]):  # the same request, to two gateways two hours apart
                site.processes.append(site.processes.pop(site.processes.index(process)))
                answers.append(await site.call("POST", "/v1/documents", key=f"clock {number}", **options))
            assert answers[0].content == answers[1].content
            assert answers[1].headers["idempotent-replayed"] == "true"
            uploads.append(UUID(answers[0].json()["id"]))
        for document_id in uploads:
            await site.until(document_id, "ready")
        leases = await site.superuser.fetch("SELECT fence, takeovers, lease_until FROM docray.generations")
        assert [(row["fence"], row["takeovers"]) for row in leases] == [(1, 0)] * DOCUMENTS  # each was leased once
        tenant_id = await site.superuser.fetchval("SELECT tenant_id FROM docray.tenants")
        assert await oracle.problems(site.superuser, tenant_id, site.place.settings().blobs, acknowledged=uploads) == []


async def test_a_lease_of_a_worker_whose_clock_is_ahead_ends_when_the_database_says_so(new_site: NewSite) -> None:
    async with new_site(lease_s=1.5, heartbeat_s=0.3) as site:
        ahead = site.start(clock_off_s=HOUR_S)
        assert (await site.call("GET", "/v1/me")).status_code == 200
        document_id = await site.upload(a_pdf("long", pages=60))
        while await site.superuser.fetchval("SELECT max(fence) FROM docray.generations") == 0:
            await asyncio.sleep(0.01)
        left_s = await site.superuser.fetchval("SELECT extract(epoch FROM max(lease_until) - clock_timestamp())::float FROM docray.generations")
        assert left_s is None or left_s <= 1.5  # no lease of an hour; none at all if it is through already
        await ahead.end()
        site.start(clock_off_s=-HOUR_S)  # takes it over by the same clock
        await site.until(document_id, "ready")


def test_the_clock_is_really_off(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(time, "time", time.time)
    monkeypatch.setattr(time, "time_ns", time.time_ns)
    before = time.time()
    shift_clock(HOUR_S)
    assert time.time() - before >= HOUR_S
    assert time.time_ns() / 1e9 - before >= HOUR_S
