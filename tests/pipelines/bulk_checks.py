"""What tests of bulk runs share: folders of PDFs, how far a run is, and whether all is well."""

import asyncio
import subprocess
import time
from pathlib import Path

import asyncpg
import oracle
from pdf_factory import lines, pdf
from site_fixture import Site

from docray.domain.principals import Principal
from docray.instance import postgres


def a_pdf(number: int, pages: int = 1) -> bytes:
    return pdf([lines(f"Report {number} page {page} tells of the harbour of Westhaven.", "It is a quiet place.") for page in range(pages)])


def filled(folder: Path, count: int, pages: int = 1) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"report-{number:03}.pdf").write_bytes(a_pdf(number, pages))
    return folder


async def all_is_well(site: Site, principal: Principal) -> list[str]:
    connection = await asyncpg.connect(site.dsn(postgres.SUPERUSER))
    try:
        return await oracle.problems(connection, principal.tenant_id, Path(site.environment["DOCRAY_DATA_DIR"]) / "blobs")
    finally:
        await connection.close()


async def states(catalog, principal) -> dict[str, int]:  # type: ignore[no-untyped-def]
    async with catalog.transaction(principal) as tx:
        return dict(await tx.documents.count_by_state())


async def until_ready(catalog, principal, count: int, process: "subprocess.Popen[str]", timeout_s: float = 120) -> None:  # type: ignore[no-untyped-def]
    """Waits until a running command has published so many."""
    deadline = time.monotonic() + timeout_s
    while (await states(catalog, principal)).get("ready", 0) < count:
        assert process.poll() is None, "it was through before anything could happen to it"
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)
