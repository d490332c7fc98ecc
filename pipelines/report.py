"""What a run came to: as a line while it goes on, then as a mapping, as text and as an HTML page with plots."""

import html
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil
import ray

from docray.domain.bulk import BulkRun, RunState

_PLOT = (640, 180)
_FAILURES_SHOWN = 200


class ClusterClock:
    """Processor seconds of this machine since it was made. On a cluster: of the driver's node only, and it says so."""

    def __init__(self) -> None:
        self._started = _busy_s()
        self._wall = time.monotonic()

    def seconds(self) -> float:
        """Busy seconds of all cores together."""
        return _busy_s() - self._started


def progress_line(run: BulkRun) -> str:
    """Where the run is, for its log."""
    parts = [f"{run.ended} of {run.files} files", f"{run.ready} ready", f"{run.failed} failed"]
    parts += [f"{run.pages} pages", f"{run.chunks} chunks"]
    if run.pages_per_s:
        parts.append(f"{run.pages_per_s:.1f} pages/s")
    if run.seconds_left is not None:
        parts.append(f"about {_duration(run.seconds_left)} left")
    return ", ".join(parts)


def memory_bytes() -> float:
    """Resident memory of this run's Ray processes on this node: the driver, and what its session's raylet started."""
    if not ray.is_initialized():
        return float(psutil.Process().memory_info().rss)
    session = ray.get_runtime_context().get_session_name()
    found = {psutil.Process()}
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "raylet" and any(session in word for word in process.info["cmdline"] or []):
            found |= {process, *process.children(recursive=True)}
    return float(sum(_resident(process) for process in found))


def _resident(process: psutil.Process) -> int:
    """Its own memory: pages that a parser's child shares with its server count once."""
    try:
        memory = process.memory_info()
    except psutil.Error:  # it has just ended
        return 0
    return int(memory.rss - memory.shared)


def summary(
    run: BulkRun, failures: tuple[Mapping[str, int], Sequence[tuple[str, str, str]]], *, seconds: float,
    samples: Sequence[Mapping[str, float]], clock: ClusterClock,
) -> Mapping[str, Any]:  # fmt: skip
    """Everything that is known of a run that has ended. Figures per 1,000 pages are None where it read none now."""
    counts, listed = failures
    pages = run.pages - (samples[0]["pages"] if samples else 0)
    cpu_s = clock.seconds()
    return {
        "job_id": str(run.id),
        "source": run.source,
        "state": run.state.value,
        "error": {"code": run.error_code, "message": run.error_message} if run.state is RunState.FAILED else None,
        "files": run.files,
        "ready": run.ready,
        "failed": run.failed,
        "duplicate": run.duplicate,
        "known": run.known,
        "failures_by_code": dict(counts),
        "failures": [{"uri": uri, "code": code, "message": message} for uri, code, message in listed],
        "pages": run.pages,
        "chunks": run.chunks,
        "size_bytes": run.size_bytes,
        "seconds": round(seconds, 1),
        "pages_per_s": round(run.pages / seconds, 2) if run.pages and seconds else None,
        "cpu_seconds_this_node": round(cpu_s, 1),
        "cpu_seconds_per_1000_pages": round(1000 * cpu_s / pages, 1) if pages > 0 else None,
        "peak_memory_bytes_this_node": int(max((sample["memory_bytes"] for sample in samples), default=0)),
        "samples": [dict(sample) for sample in samples],
    }


def as_text(told: Mapping[str, Any]) -> str:
    """The summary for a terminal."""
    lines = [
        f"Job {told['job_id']}: {told['state']}" + (f" ({told['error']['message']})" if told["error"] else ""),
        f"{told['files']} files: {told['ready']} ready, {told['failed']} failed, {told['duplicate']} duplicates, {told['known']} known before",
        f"{told['pages']} pages and {told['chunks']} chunks in {_duration(told['seconds'])}"
        + (f", {told['pages_per_s']} pages/s" if told["pages_per_s"] else ""),
    ]
    if told["cpu_seconds_per_1000_pages"]:
        peak = told["peak_memory_bytes_this_node"] / 2**30
        lines.append(f"{told['cpu_seconds_per_1000_pages']} CPU seconds per 1,000 pages and {peak:.2f} GiB at most on this node")
    lines += [f"  {count} × {code}" for code, count in told["failures_by_code"].items()]
    lines += [f"  {each['uri']}: {each['message']}" for each in told["failures"][:20]]
    more = sum(told["failures_by_code"].values()) - len(told["failures"][:20])
    if told["failures"] and more:
        lines.append(f"  … and {more} more")
    return "\n".join(lines)


def as_html(told: Mapping[str, Any]) -> str:
    """The summary as one page that needs nothing else: figures, plots over time, failures."""
    samples = told["samples"]
    seconds = [sample["seconds"] for sample in samples]
    plots = "".join(
        f"<h2>{html.escape(title)}</h2>{_plot(seconds, [sample[name] / unit for sample in samples], label)}"
        for title, name, unit, label in (
            ("Files that ended", "ended", 1, "files"),
            ("Pages that can be found", "pages", 1, "pages"),
            ("Memory of Ray's processes on the driver's node", "memory_bytes", 2**30, "GiB"),
        )
    )
    rows = "".join(
        f"<tr><td>{html.escape(each['uri'])}</td><td>{html.escape(each['code'])}</td><td>{html.escape(each['message'] or '')}</td></tr>"
        for each in told["failures"][:_FAILURES_SHOWN]
    )
    failures = f"<h2>Files that could not be ingested</h2><table><tr><th>File</th><th>Code</th><th>Why</th></tr>{rows}</table>" if rows else ""
    figures = "".join(f"<li>{html.escape(line)}</li>" for line in as_text({**told, "failures": []}).splitlines())
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>docray bulk ingestion</title>"
        "<style>body{font:15px/1.5 system-ui;margin:2rem auto;max-width:60rem}svg{background:#f6f6f6}table{border-collapse:collapse}"
        "td,th{border:1px solid #ccc;padding:.2rem .5rem;text-align:left}</style>"
        f"<h1>{html.escape(told['source'])}</h1><ul>{figures}</ul>{plots}{failures}</html>"
    )


def _plot(xs: Sequence[float], ys: Sequence[float], label: str) -> str:
    """A line over time as SVG: two axes' ends are all that one needs to read it."""
    if len(xs) < 2:
        return "<p>Too short to plot.</p>"
    width, height = _PLOT
    top, right = max(ys) or 1.0, max(xs) or 1.0
    points = " ".join(f"{x / right * width:.1f},{height - y / top * height:.1f}" for x, y in zip(xs, ys, strict=True))
    return (
        f'<svg viewBox="0 -20 {width} {height + 45}" width="{width}" role="img">'
        f'<polyline fill="none" stroke="#06c" stroke-width="2" points="{points}"/><text x="4" y="-4">{top:,.6g} {html.escape(label)}</text>'
        f'<text x="{width}" y="{height + 18}" text-anchor="end">{_duration(right)}</text></svg>'
    )


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 100:
        return f"{seconds:.1f} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min" if whole >= 3600 else f"{whole // 60} min {whole % 60} s"


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "nice", 0.0))
