"""What every blob store promises: whole files or none, under keys that lead nowhere else."""

import asyncio
import os

import pytest

from docray.domain.errors import NotFound
from docray.domain.ids import blob_key, new_id
from docray.stores.filesystem_blobs import FilesystemBlobs


@pytest.fixture
def store(tmp_path):
    made = FilesystemBlobs(tmp_path / "blobs")
    made.prepare()
    return made


def staged(store, content: bytes):
    path = store.staging() / str(new_id())
    path.write_bytes(content)
    return path


def a_key(generation: int = 1) -> str:
    return blob_key(new_id(), new_id(), generation)


async def keys_of(store, prefix=""):
    return {key async for key, _ in store.list_keys(prefix)}


async def test_a_file_is_taken_over_and_can_be_read(store):
    key, source = a_key(), staged(store, b"%PDF-1.7")
    await store.put_file(key, source)
    assert (await store.open(key)).read_bytes() == b"%PDF-1.7"
    assert not source.exists()


async def test_what_is_not_there_is_not_found(store):
    with pytest.raises(NotFound):
        await store.open(a_key())
    await store.delete(a_key())


async def test_a_deleted_blob_is_gone_and_may_still_be_read_by_who_has_it_open(store):
    key = a_key()
    await store.put_file(key, staged(store, b"content"))
    with (await store.open(key)).open("rb") as reader:
        await store.delete(key)
        assert reader.read() == b"content"
    with pytest.raises(NotFound):
        await store.open(key)
    assert await keys_of(store) == set()


async def test_what_a_crash_left_under_a_key_is_replaced(store):
    key = a_key()
    await store.put_file(key, staged(store, b"left over"))
    await store.put_file(key, staged(store, b"right"))
    assert (await store.open(key)).read_bytes() == b"right"


BAD_KEYS = ["", "/", "../x", "a/../b", "/etc/passwd", "a//b", "a/", ".hidden", "a/.b", "a\0b", "a\nb", "a\\b", "é", "a" * 300, "/".join("a" * 9)]


@pytest.mark.parametrize("key", BAD_KEYS)
async def test_a_key_never_leads_outside(store, key, tmp_path):
    outside = tmp_path / "x"
    outside.write_bytes(b"outside")
    source = staged(store, b"inside")
    for call in (store.put_file(key, source), store.open(key), store.delete(key)):
        with pytest.raises(ValueError, match="key"):
            await call
    assert outside.read_bytes() == b"outside"
    assert source.exists()


async def test_keys_are_listed_with_their_age(store):
    tenant, document = new_id(), new_id()
    keys = {blob_key(tenant, document, n) for n in range(1, 8)}
    for key in keys:
        await store.put_file(key, staged(store, b"x"))
    await store.put_file(a_key(), staged(store, b"x"))
    old = blob_key(tenant, document, 1)
    os.utime(await store.open(old), (1_000_000_000, 1_000_000_000))
    assert await keys_of(store, f"{tenant}/") == keys
    assert len(await keys_of(store)) == 8
    ages = {key: age async for key, age in store.list_keys(str(tenant))}
    assert ages[old] > 1e8
    assert all(0 <= ages[key] < 3600 for key in keys - {old})


async def test_files_on_their_way_in_are_no_blobs(store):
    staged(store, b"half")
    assert await keys_of(store) == set()
    assert store.staging().stat().st_dev == (store.staging().parent / "objects").stat().st_dev


async def test_a_tenant_whose_last_blob_goes_leaves_no_folder(store):
    key = a_key()
    await store.put_file(key, staged(store, b"x"))
    path = await store.open(key)
    await store.delete(key)
    assert not path.parent.exists()
    assert not path.parent.parent.exists()


async def test_writes_and_deletes_beside_each_other_lose_nothing(store):
    tenant, document = new_id(), new_id()

    async def churn(n: int):
        for _ in range(20):
            await store.put_file(blob_key(tenant, document, n), staged(store, str(n).encode()))
            assert (await store.open(blob_key(tenant, document, n))).read_bytes() == str(n).encode()
            await store.delete(blob_key(tenant, document, n))

    await asyncio.gather(*(churn(n) for n in range(1, 7)))
    assert await keys_of(store) == set()


async def test_blobs_are_their_owners_only(store):
    key = a_key()
    await store.put_file(key, staged(store, b"x"))
    path = await store.open(key)
    assert (path.parent.stat().st_mode | path.parent.parent.stat().st_mode) & 0o077 == 0
