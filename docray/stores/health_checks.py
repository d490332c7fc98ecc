"""Is the database there, can blobs be written? For `/readyz`; tells no host, path or version."""

import asyncio
import os
import shutil
import time
from typing import Any

from docray.domain.errors import DocrayError
from docray.domain.ports import BlobStore
from docray.stores.postgres import Database

_LOW_DISK_BYTES = 256 << 20


class DatabaseHealth:
    """One round trip. Critical: without PostgreSQL nothing can be answered."""

    name = "database"
    critical = True

    def __init__(self, database: Database) -> None:
        self._database = database

    async def check(self) -> dict[str, Any]:
        """{"ok", "latency_ms", "detail"}."""
        started = time.monotonic()
        try:
            await self._database.call("SELECT 1")
        except DocrayError:
            return {"ok": False, "latency_ms": None, "detail": "does not answer"}
        return {"ok": True, "latency_ms": round((time.monotonic() - started) * 1000, 2), "detail": None}


class BlobHealth:
    """Whether the folder takes writes and has room. Not critical: questions are answered without it."""

    name = "blobs"
    critical = False

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    async def check(self) -> dict[str, Any]:
        """{"ok", "latency_ms", "detail"}."""
        try:
            folder = self._blobs.staging()
            writable = await asyncio.to_thread(os.access, folder, os.W_OK)
            free = (await asyncio.to_thread(shutil.disk_usage, folder)).free
        except OSError:
            return {"ok": False, "latency_ms": None, "detail": "not there"}
        if not writable:
            return {"ok": False, "latency_ms": None, "detail": "read only"}
        if free < _LOW_DISK_BYTES:
            return {"ok": False, "latency_ms": None, "detail": "hardly any room left"}
        return {"ok": True, "latency_ms": None, "detail": None}
