"""The parser sandbox as processes: what a child may not do, how its end is understood, that the service lives on."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from docray.domain.documents import FailureCode
from docray.domain.errors import ExtractionFailed, NotFound, Unavailable
from docray.ingestion.extract.limits import ParserLimits
from docray.ingestion.sandbox import wire
from docray.ingestion.sandbox.client import Parser, meaning_of
from docray.ingestion.sandbox.probe import probe_sandbox
from docray.ingestion.sandbox.process import Abilities, Ending, ParserProcess, ServerDied, Task
from tests.integration import sandbox_probes
from tests.pdf_factory import lines, pdf

pytestmark = pytest.mark.asyncio(loop_scope="module")  # a server takes seconds to load its engines: the tests share one
LIMITS = ParserLimits(time_s=30, memory_bytes=512 << 20)
MEMORY_BYTES = 256 << 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def probes() -> AsyncIterator[ParserProcess]:
    """A parser server with hostile jobs. Skips where the kernel has no Landlock or no seccomp: the product then warns or refuses."""
    process = ParserProcess(engine="pymupdf", jobs=sandbox_probes.__name__)
    found = await process.start()
    if not (found.landlock and found.seccomp):
        await process.close()
        pytest.skip(f"this kernel confines nothing in full: {found}")
    yield process
    await process.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parser() -> AsyncIterator[Parser]:
    parser = Parser(limits=LIMITS, max_children=4)
    await parser.start()
    yield parser
    await parser.close()


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """Twelve pages of text."""
    path = tmp_path / "report.pdf"
    path.write_bytes(pdf([lines(f"Page {number} of the report", "speaks of the reactor.") for number in range(1, 13)], title="Report"))
    return path


async def run(process: ParserProcess, job: str, path: Path, time_s: float = 30.0) -> tuple[dict[str, object] | None, Ending]:
    """What a probe answered, and how it ended."""
    answer = None
    async for frame in process.frames(Task(job=job, arguments={}, time_s=time_s, memory_bytes=MEMORY_BYTES), path):
        if isinstance(frame, Ending):
            return answer, frame
        if frame[0] in (wire.FINISHED, wire.FAILED):
            answer = wire.unpack(frame[1])
    raise AssertionError("no ending")


async def until(condition: Callable[[], bool]) -> None:
    """Waits for a condition that another process brings about."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def server_of(parser: Parser) -> int:
    assert parser.server_pid is not None
    return parser.server_pid


async def test_a_child_is_denied_everything_but_parsing(probes: ParserProcess, report: Path) -> None:
    allowed = {}
    for name in sandbox_probes.DENIED:
        answer, ending = await run(probes, name, report)
        if answer is None or answer["denied"] is not True or ending.signal:
            allowed[name] = (answer, ending)

    assert allowed == {}
    assert probes.alive


async def test_a_child_may_run_threads_and_read_its_file_and_sees_no_environment_of_ours(probes: ParserProcess, report: Path) -> None:
    thread, _ = await run(probes, "thread", report)
    seen, _ = await run(probes, "environment", report)

    assert thread == {"denied": False, "detail": "'a thread ran'"}
    assert seen is not None
    assert str(seen["text"]).startswith("%PDF-1.7")
    assert set(seen["environment"]) <= {  # type: ignore[call-overload]
        "LC_ALL", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MALLOC_ARENA_MAX", "MIMALLOC_ARENA_RESERVE", "TOKIO_WORKER_THREADS",
    }  # fmt: skip
    assert seen["user"] != 0


async def test_too_much_memory_ends_as_memory_limit(probes: ParserProcess, report: Path) -> None:
    answer, _ = await run(probes, "eat memory", report)

    assert answer == {"code": FailureCode.MEMORY_LIMIT}


@pytest.mark.parametrize(
    ("job", "code"),
    [
        ("burn", FailureCode.TIME_LIMIT),
        ("sleep", FailureCode.TIME_LIMIT),
        ("crash", FailureCode.PARSER_CRASH),
        ("abort", FailureCode.PARSER_CRASH),
        ("leave", FailureCode.PARSER_CRASH),
    ],
)
async def test_the_end_of_a_child_tells_what_went_wrong(probes: ParserProcess, report: Path, job: str, code: FailureCode) -> None:
    answer, ending = await run(probes, job, report, time_s=0.3)

    assert answer is None
    assert meaning_of(ending, MEMORY_BYTES) is code
    assert (await run(probes, "thread", report))[0] is not None


async def test_a_signal_at_the_memory_limit_means_memory_and_a_foreign_kill_too() -> None:
    assert meaning_of(Ending(signal=6, timed_out=False, peak_bytes=MEMORY_BYTES), MEMORY_BYTES) is FailureCode.MEMORY_LIMIT
    assert meaning_of(Ending(signal=9, timed_out=False, peak_bytes=0), MEMORY_BYTES) is FailureCode.MEMORY_LIMIT
    assert meaning_of(Ending(signal=24, timed_out=False, peak_bytes=0), MEMORY_BYTES) is FailureCode.TIME_LIMIT


async def test_a_frame_longer_than_any_of_ours_is_refused_unread(probes: ParserProcess, report: Path) -> None:
    with pytest.raises(wire.WireError):
        await run(probes, "shout", report)

    assert (await run(probes, "thread", report))[0] is not None


async def test_a_server_that_cannot_load_its_jobs_does_not_start(report: Path) -> None:
    process = ParserProcess(engine="pymupdf", jobs="docray.no_such_module")

    with pytest.raises(ServerDied):
        await process.start()
    with pytest.raises(ServerDied):
        await run(process, "extract", report)


async def test_the_probe_reports_what_holds() -> None:
    report = await probe_sandbox()

    assert report.ok == (report.fix is None)
    assert "pymupdf" in report.detail
    assert "liteparse" in report.detail


async def test_pages_come_with_words_blocks_and_progress(parser: Parser, report: Path) -> None:
    seen: list[tuple[int, int]] = []

    async def on_progress(done: int, total: int) -> None:
        seen.append((done, total))

    extraction = await parser.extract(report, on_progress=on_progress)

    assert extraction.title == "Report"
    assert [page.number for page in extraction.pages] == list(range(1, 13))
    assert extraction.pages[6].text.split() == ["Page", "7", "of", "the", "report", "speaks", "of", "the", "reactor."]
    assert all(page.words and page.blocks for page in extraction.pages)
    assert seen == [(done, 12) for done in range(1, 13)]


async def test_many_documents_at_once_do_not_mix(parser: Parser, tmp_path: Path) -> None:
    paths = []
    for number in range(12):
        path = tmp_path / f"{number}.pdf"
        path.write_bytes(pdf([lines(f"Document number {number} is this one.")]))
        paths.append(path)

    found = await asyncio.gather(*map(parser.extract, paths))

    assert [extraction.pages[0].text for extraction in found] == [f"Document number {number} is this one." for number in range(12)]


async def test_cancelling_kills_the_child_and_the_next_document_is_read(parser: Parser, tmp_path: Path, report: Path) -> None:
    long = tmp_path / "long.pdf"
    long.write_bytes(pdf([lines(*["A line of a very long report"] * 50) for _ in range(2000)]))
    server, started = server_of(parser), asyncio.Event()

    async def on_progress(done: int, total: int) -> None:
        started.set()

    task = asyncio.create_task(parser.extract(long, on_progress=on_progress))
    await started.wait()
    assert children_of(server)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await until(lambda: not children_of(server))
    assert len((await parser.extract(report)).pages) == 12


async def test_a_killed_server_comes_back_with_the_next_document(parser: Parser, report: Path) -> None:
    server = server_of(parser)
    os.kill(server, 9)
    await until(lambda: not Path(f"/proc/{server}/cmdline").read_bytes())

    assert len((await parser.extract(report)).pages) == 12
    assert server_of(parser) != server


async def test_the_time_limit_holds_over_all_tries(tmp_path: Path) -> None:
    path = tmp_path / "long.pdf"
    path.write_bytes(pdf([lines(*["A line of a very long report"] * 50) for _ in range(3000)]))
    parser = Parser(limits=ParserLimits(time_s=0.2))
    await parser.start()

    with pytest.raises(ExtractionFailed) as raised:
        await parser.extract(path)

    assert raised.value.failure is FailureCode.TIME_LIMIT
    await parser.close()


async def test_a_file_that_is_no_pdf_says_so(parser: Parser, tmp_path: Path) -> None:
    (tmp_path / "page.pdf").write_text("<html>no</html>")
    (tmp_path / "empty.pdf").touch()

    for name in ("page.pdf", "empty.pdf"):
        with pytest.raises(ExtractionFailed) as raised:
            await parser.extract(tmp_path / name)
        assert raised.value.failure is FailureCode.NOT_A_PDF


async def test_a_picture_shows_the_page_and_its_highlight(parser: Parser, report: Path) -> None:
    plain = await parser.render(report, 3, scale=1)
    marked = await parser.render(report, 3, scale=1, highlight=[(72, 60, 200, 80)])

    assert plain.startswith(b"\x89PNG")
    assert plain[16:24] == (612).to_bytes(4, "big") + (792).to_bytes(4, "big")
    assert marked != plain


@pytest.mark.parametrize("page", [0, 13, -1, 10**9])
async def test_there_is_no_picture_of_a_page_that_does_not_exist(parser: Parser, report: Path, page: int) -> None:
    with pytest.raises(NotFound):
        await parser.render(report, page, scale=1)


async def test_a_picture_that_does_not_fit_into_the_memory_is_a_failure_with_that_reason(report: Path) -> None:
    parser = Parser(limits=ParserLimits(memory_bytes=8 << 20))
    await parser.start()

    with pytest.raises(ExtractionFailed) as raised:
        await parser.render(report, 1, scale=4)

    assert raised.value.failure is FailureCode.MEMORY_LIMIT
    await parser.close()


async def test_a_closed_parser_is_unavailable_and_leaves_no_process(report: Path) -> None:
    parser = Parser(limits=LIMITS)
    await parser.start()
    server = server_of(parser)
    await parser.close()

    assert not Path(f"/proc/{server}").exists()
    with pytest.raises(Unavailable):
        await parser.extract(report)


async def test_required_confinement_is_had_or_refused(report: Path) -> None:
    parser = Parser(limits=LIMITS, require_confinement=True)
    try:
        await parser.start()
    except Unavailable:
        assert not (await probe_sandbox()).ok
    else:
        assert isinstance(parser.abilities, Abilities)
        assert parser.abilities.landlock > 0
        assert parser.abilities.seccomp
        assert len((await parser.extract(report)).pages) == 12
    await parser.close()
