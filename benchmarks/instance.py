"""The docray that is measured: address and key of a running instance, a low-cost load generator, and one line of JSON per figure."""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class Instance:
    """Where docray answers, and with which key."""

    url: str
    api_key: str

    @classmethod
    def find(cls) -> "Instance":
        """DOCRAY_URL and DOCRAY_API_KEY, else the instance of DOCRAY_DATA_DIR or ./.docray. SystemExit where none runs."""
        if os.environ.get("DOCRAY_URL") and os.environ.get("DOCRAY_API_KEY"):
            return cls(os.environ["DOCRAY_URL"], os.environ["DOCRAY_API_KEY"])
        try:
            told = json.loads((Path(os.environ.get("DOCRAY_DATA_DIR", ".docray")) / "instance.json").read_text(encoding="utf-8"))
        except OSError:
            raise SystemExit("no docray runs: start it with `docray up`, or set DOCRAY_URL and DOCRAY_API_KEY") from None
        return cls(told["url"], told["api_key"])


def figure(**values: object) -> None:
    """Prints one line of JSON."""
    print(json.dumps(values), flush=True)


def request_bytes(instance: Instance, method: str, path: str, body: object = None) -> bytes:
    """A whole HTTP/1.1 request, to be sent as it is."""
    data = json.dumps(body).encode() if body is not None else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: {urlsplit(instance.url).netloc}\r\nAuthorization: Bearer {instance.api_key}\r\n"
    if data:
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    return head.encode() + b"\r\n" + data


@dataclass(frozen=True)
class Load:
    """What a run of requests came to."""

    rate: float
    p50_ms: float
    p95_ms: float
    errors: int
    requests: int


async def run_load(instance: Instance, requests: Iterable[bytes], connections: int, seconds: float) -> Load:
    """Sends the requests over that many connections, closed-loop, bounded in time. Loopback only."""
    parts = urlsplit(instance.url)
    if parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise SystemExit("benchmarks send load to this machine only")
    source, times, errors = iter(requests), [], 0
    stop = time.perf_counter() + seconds

    async def one() -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            while time.perf_counter() < stop and (payload := next(source, None)) is not None:
                started = time.perf_counter()
                writer.write(payload)
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
                await reader.readexactly(length)
                times.append(time.perf_counter() - started)
                errors += not head.startswith(b"HTTP/1.1 200")
        finally:
            writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    spent = time.perf_counter() - started
    if not times:
        sys.exit("no request was answered")
    ordered = sorted(times)
    return Load(
        rate=round(len(times) / spent, 1), p50_ms=round(statistics.median(ordered) * 1000, 2),
        p95_ms=round(ordered[int(len(ordered) * 0.95)] * 1000, 2), errors=errors, requests=len(times),
    )  # fmt: skip
