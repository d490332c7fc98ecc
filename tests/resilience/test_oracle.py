"""The oracle sees damage: each kind is planted by hand in what was clean, and found under its invariant."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest

from tests import oracle
from tests.resilience.conftest import NewSite
from tests.resilience.story import Site, Told, whole_life


@dataclass
class Scene:
    """A site after a whole life: one document answers, one failed, one was deleted."""

    site: Site
    told: Told
    tenant_id: UUID

    async def findings(self) -> list[oracle.Finding]:
        return await oracle.problems(
            self.site.superuser, self.tenant_id, self.site.place.settings().blobs, acknowledged=self.told.acknowledged, deleted=self.told.deleted
        )


@pytest.fixture
async def scene(new_site: NewSite) -> AsyncIterator[Scene]:
    async with new_site() as site:
        site.start()
        told = await whole_life(site)
        await site.processes[-1].end()  # nobody mends what is planted
        yield Scene(site, told, await site.superuser.fetchval("SELECT tenant_id FROM docray.tenants"))


READY = "(SELECT id FROM docray.documents WHERE state = 'ready')"
FAILED = "(SELECT id FROM docray.documents WHERE state = 'failed')"
DAMAGE = {
    "a document went away": (f"DELETE FROM docray.documents WHERE id = {FAILED}", "I1", "lost"),
    "a document hangs": (f"UPDATE docray.documents SET state = 'parsed' WHERE id = {FAILED}", "I1", "stuck"),
    "the same bytes twice": ("UPDATE docray.documents SET sha256 = 'x'", "I1", "doubled"),
    "a vector is missing": ("DELETE FROM docray.chunk_vectors WHERE n = 0", "I2", "lost"),
    "a vector of another id": ("UPDATE docray.chunk_vectors SET chunk_id = gen_random_uuid()", "I2", "doubled"),
    "a chunk of another id": ("UPDATE docray.chunks SET chunk_id = gen_random_uuid()", "I2", "wrong"),
    "keywords are missing": ("DELETE FROM docray.keyword_parts", "I2", "wrong"),
    "postings of nobody": ("UPDATE docray.keyword_postings SET part = part + 1", "I4", "leaked"),
    "vectors of an old generation": ("UPDATE docray.chunk_vectors SET generation = 1", "I4", "leaked"),
    "pages of a deleted document": ("UPDATE docray.chunk_vectors SET document_id = gen_random_uuid()", "I4", "leaked"),
    "a superseded generation stays": (
        "INSERT INTO docray.generations (tenant_id, document_id, generation, state, sha256, size_bytes, blob_key)"
        " SELECT tenant_id, id, 1, 'deleting', sha256, 1, 'x' FROM docray.documents WHERE state = 'ready'", "I4", "leaked",
    ),
    "an audit row is missing": ("DELETE FROM docray.audit_log WHERE action = 'document.published'", "I5", "wrong"),
    "an audit row is doubled": (
        "INSERT INTO docray.audit_log (tenant_id, principal_kind, action, object_kind, object_id, details)"
        " SELECT tenant_id, principal_kind, action, object_kind, object_id, details FROM docray.audit_log WHERE action = 'document.delete'",
        "I5", "doubled",
    ),
    "a delete that was not": (
        "INSERT INTO docray.audit_log (tenant_id, principal_kind, action, object_kind, object_id)"
        f" SELECT tenant_id, 'api_key', 'document.delete', 'document', id FROM docray.documents WHERE id = {READY}", "I5", "wrong",
    ),
    "a failure nobody noted": ("DELETE FROM docray.audit_log WHERE action = 'document.failed'", "I5", "wrong"),
    "a generation hangs": (f"UPDATE docray.generations SET state = 'queued' WHERE document_id = {FAILED}", "I6", "stuck"),
    "a purge waits": (
        f"INSERT INTO docray.purges (tenant_id, id, document_id) SELECT tenant_id, gen_random_uuid(), id FROM docray.documents WHERE id = {READY}",
        "I6", "stuck",
    ),
    "a failure without words": (f"UPDATE docray.generations SET failure_message = NULL WHERE document_id = {FAILED}", "I6", "lost"),
    "usage is doubled": (
        "INSERT INTO docray.usage (tenant_id, kind, document_id, generation, pages) SELECT tenant_id, kind, document_id, generation, pages"
        " FROM docray.usage", "I7", "doubled",
    ),
    "usage is missing": ("DELETE FROM docray.usage", "I7", "wrong"),
    "usage is too high": ("UPDATE docray.usage SET pages = pages + 1", "I7", "wrong"),
    "rows are hidden": ("CREATE POLICY less ON docray.documents AS RESTRICTIVE USING (state <> 'ready')", "I8", "wrong"),
}  # fmt: skip


async def test_what_is_clean_is_clean_and_each_damage_is_found(scene: Scene) -> None:
    assert await scene.findings() == []
    missed = {}
    for name, (statement, invariant, harm) in DAMAGE.items():
        damaged = scene.site.superuser.transaction()
        await damaged.start()
        await scene.site.superuser.execute(statement)
        found = {(each.invariant, each.harm) for each in await scene.findings()}
        await damaged.rollback()
        if (invariant, harm) not in found:
            missed[name] = found
    assert missed == {}
    assert await scene.findings() == []


async def test_blobs_that_are_missing_foreign_or_changed_are_found(scene: Scene) -> None:
    blobs = sorted((scene.site.place.settings().blobs / "objects").rglob("*.pdf"))
    whole = blobs[0].read_bytes()
    stray = blobs[0].with_name("99.pdf")
    for change, undo, harm in (
        (lambda: blobs[0].unlink(), lambda: blobs[0].write_bytes(whole), "lost"),
        (lambda: stray.write_bytes(b"x"), stray.unlink, "leaked"),
        (lambda: blobs[0].write_bytes(b"x" * len(whole)), lambda: blobs[0].write_bytes(whole), "wrong"),
    ):
        change()
        assert [(each.invariant, each.harm) for each in await scene.findings()] == [("I3", harm)]
        undo()
    assert await scene.findings() == []


async def test_what_clients_were_told_is_held_against_what_is_there(scene: Scene) -> None:
    there = scene.told.acknowledged[0]
    scene.told.deleted.append(there)
    assert [(each.invariant, each.harm) for each in await scene.findings()] == [("I1", "resurrected")]
    scene.told.deleted.remove(there)
    scene.told.acknowledged.append(uuid4())
    assert [(each.invariant, each.harm) for each in await scene.findings()] == [("I1", "lost")]
