"""What the sandbox can do on this machine, for `docray doctor`. Owns the sentences; leaves finding out to the server."""

from dataclasses import dataclass
from typing import Literal

from docray.ingestion.sandbox.process import ParserProcess, ServerDied


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxReport:
    """One check: whether parsing is confined in full, what was found, and what to do where it is not."""

    ok: bool
    detail: str
    fix: str | None = None


async def probe_sandbox(engine: Literal["pymupdf", "pypdfium2"] = "pymupdf") -> SandboxReport:
    """Starts a parser server, asks what holds, ends it."""
    process = ParserProcess(engine=engine)
    try:
        found = await process.start()
    except ServerDied:
        return SandboxReport(ok=False, detail="the parser server does not start", fix=f"Install the engine: pip install {engine}")
    finally:
        await process.close()
    landlock = f"Landlock {found.landlock}" if found.landlock else "no Landlock"
    parts = [landlock, "seccomp" if found.seccomp else "no seccomp", "engines " + " and ".join(found.engines)]
    parts.append("liteparse for structure" if found.structure else "no liteparse: pages keep the engine's own order")
    needed = (("Landlock (Linux 5.13 or later)", found.landlock), ("seccomp", found.seccomp))
    missing = [name for name, there in needed if not there]
    if not missing:
        return SandboxReport(ok=True, detail=", ".join(parts))
    fix = f"Run on a kernel with {' and '.join(missing)} and let the container use it; until then only limits and another user hold."
    return SandboxReport(ok=False, detail=", ".join(parts), fix=fix)
