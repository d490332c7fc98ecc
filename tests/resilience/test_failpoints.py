"""C11: the process dies, or stands still for longer than its lease, at every point of the saga; another one goes on, and the oracle is clean."""

import ast
import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from docray.resilience.failpoints import POINTS
from tests import oracle
from tests.resilience.conftest import NewSite
from tests.resilience.site import Tell, Trap
from tests.resilience.sizes import FIGURES, NIGHTLY, SEED, dice
from tests.resilience.story import Site, Told, whole_life

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = 4  # two cores; most of a case is waiting
AGAIN = [(point, 2) for point in POINTS if point.startswith(("publish.", "purge."))]
"""A second publish supersedes; a second purge is of a whole document."""
CASES = [(point, 1) for point in POINTS] + AGAIN


def points_in_the_code() -> list[str]:
    found = []
    for path in (ROOT / "docray").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reached":
                assert isinstance(node.args[0], ast.Constant), path
                found.append(node.args[0].value)
    return found


def test_every_listed_point_stands_in_the_code_once_and_no_other_does() -> None:
    assert sorted(points_in_the_code()) == sorted(POINTS)


def test_nothing_in_the_product_arms_them() -> None:
    arming = [
        str(path.relative_to(ROOT))
        for folder in ("docray", "serve_apps", "pipelines", "models")
        for path in (ROOT / folder).rglob("*.py")
        if "failpoints" in (text := path.read_text(encoding="utf-8")) and ("arm(" in text or "import arm" in text) and path.name != "failpoints.py"
    ]
    assert arming == []


async def findings(site: Site, told: Told) -> list[oracle.Finding]:
    tenant_id = await site.superuser.fetchval("SELECT tenant_id FROM docray.tenants")
    blobs = site.place.settings().blobs
    return await oracle.problems(site.superuser, tenant_id, blobs, acknowledged=told.acknowledged, deleted=told.deleted)


async def test_the_story_reaches_every_point(new_site: NewSite) -> None:
    async with new_site() as site:
        told_points = site.place.data_dir / "reached"
        site.start(Tell(told_points))
        told = await whole_life(site)
        reached = told_points.read_text().split()
        assert {point for point, nth in CASES if reached.count(point) < nth} == set()
        assert len(site.processes) == 1
        assert await findings(site, told) == []


async def died(site: Site, trap: Trap) -> list[object]:
    """One case: what is wrong afterwards."""
    armed = site.start(trap)
    told = await whole_life(site)
    wrong: list[object] = [*await swept(site, told)]
    return wrong if armed.killed else [*wrong, "it did not die"]


async def stood_still(site: Site, trap: Trap) -> list[object]:
    """One case: another process does its work meanwhile, then the stopped one goes on with what it was about to do.

    It sends no heartbeats, for one would tell it at once that its lease is lost: here the fence alone stands between it and the rows.
    """
    armed = site.start(trap, heartbeat_s=3600.0)
    told = await whole_life(site)
    wrong: list[object] = [] if armed in site.woken else ["it did not stop"]
    await armed.end(signal.SIGTERM)
    await site.purged()
    return [*wrong, *await swept(site, told)]


async def swept(site: Site, told: Told) -> list[oracle.Finding]:
    """What the oracle finds once a day has passed for blobs without a row, which the worker's sweep then removes."""
    found = await findings(site, told)
    if [each.harm for each in found] == ["leaked"] * len(found):
        yesterday = time.time() - 25 * 3600
        for path in (site.place.settings().blobs / "objects").rglob("*.pdf"):
            os.utime(path, (yesterday, yesterday))
        site.start()  # sweeps at its start
        for _ in range(100):
            if not (found := await findings(site, told)):
                break
            await asyncio.sleep(0.1)
    return found


@pytest.mark.parametrize(("number", "case"), [(signal.SIGKILL, died), (signal.SIGSTOP, stood_still)], ids=["dies", "stands_still"])
async def test_at_every_point(new_site: NewSite, number: signal.Signals, case) -> None:  # type: ignore[no-untyped-def]
    slots = asyncio.Semaphore(AT_ONCE)
    order = list(CASES)
    dice(f"failpoints/{number.name}").shuffle(order)
    if number == signal.SIGSTOP and not NIGHTLY:  # each waits for a lease; which half is the seed's choice
        order = order[: len(order) // 2]

    async def one(point: str, nth: int) -> tuple[str, list[object]]:
        async with slots, new_site() as site:
            try:
                return f"{point}/{nth}", await case(site, Trap(point, nth, number))
            except (AssertionError, TimeoutError) as error:
                return f"{point}/{nth}", [error]

    started = time.monotonic()
    wrong = {name: found for name, found in await asyncio.gather(*(one(*each) for each in order)) if found}
    FIGURES.append(f"C11 {number.name}: {len(order)} points in {time.monotonic() - started:.0f} s, {len(wrong)} not clean")
    assert wrong == {}, f"seed {SEED}"
