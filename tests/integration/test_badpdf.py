"""Every file of the development corpus of damaged, hostile and unusual PDFs ends as its manifest expects, with either engine."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from docray.domain.documents import FAILURE_MESSAGES, FailureCode
from docray.domain.errors import ExtractionFailed
from docray.ingestion.extract.limits import ParserLimits
from docray.ingestion.sandbox.client import Engine, Parser
from tests.pdf_factory import lines, pdf

pytestmark = pytest.mark.asyncio(loop_scope="module")
LIMITS = ParserLimits(time_s=30, memory_bytes=1 << 30)
UNREADABLE = {FailureCode.DAMAGED, FailureCode.NOT_A_PDF, FailureCode.NO_TEXT}
# The text is on layers that are switched off. PyMuPDF does not show it; PDFium's text does not know about layers.
HIDDEN_LAYERS = {("pypdfium2", "pdfjs__issue269_2.pdf")}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["pymupdf", "pypdfium2"])
async def parser(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Engine, Parser]]:
    parser = Parser(engine=request.param, limits=LIMITS)
    await parser.start()
    yield request.param, parser
    await parser.close()


async def outcome(parser: Parser, path: Path) -> str | FailureCode:
    """The text, or why there is none."""
    try:
        extraction = await parser.extract(path)
    except ExtractionFailed as error:
        return error.failure
    text = "\n".join(page.text for page in extraction.pages)
    assert sum(map(str.isalnum, text)) >= 4, "an empty success"
    text.encode()
    assert "\0" not in text
    return text


def is_as_expected(expect: str, found: str | FailureCode) -> bool:
    is_text = not isinstance(found, FailureCode)
    return {
        "text": is_text,
        "no_text": found is FailureCode.NO_TEXT,
        "password": found is FailureCode.ENCRYPTED,
        "fail": found in UNREADABLE,
        "fail_or_text": is_text or found in {*UNREADABLE, FailureCode.ENCRYPTED},
        "no_crash": is_text or found in {*UNREADABLE, FailureCode.ENCRYPTED},
        "bounded": is_text or found in FailureCode,
    }[expect]


async def test_every_bad_pdf_ends_as_expected_and_the_next_file_is_read(parser: tuple[Engine, Parser], shared_data: Path, tmp_path: Path) -> None:
    engine, reader = parser
    good = tmp_path / "good.pdf"
    good.write_bytes(pdf([lines("A good report.")]))
    files: list[dict[str, Any]] = [file for file in json.loads((shared_data / "MANIFEST.json").read_text())["files"] if file["set"] == "badpdf"]
    assert len(files) > 100
    server, wrong = reader.server_pid, []
    for file in files:
        path = shared_data / file["file"]
        found = await outcome(reader, path)
        if not is_as_expected(file["expect"], found) and (engine, path.name) not in HIDDEN_LAYERS:
            wrong.append((path.name, file["expect"], str(found)[:80]))
        if isinstance(found, FailureCode):
            assert FAILURE_MESSAGES[found]
        assert await outcome(reader, good) == "A good report."

    assert wrong == []
    assert reader.server_pid == server


async def test_a_nul_character_and_an_instruction_come_out_as_plain_text(parser: tuple[Engine, Parser], shared_data: Path) -> None:
    for name in ("gen__nul_in_text.pdf", "gen__prompt_injection.pdf"):
        text = await outcome(parser[1], shared_data / "badpdf" / name)
        assert not isinstance(text, FailureCode)
        assert len(text) > 40


async def test_a_picture_of_any_first_page_is_small_enough_or_refused(parser: tuple[Engine, Parser], shared_data: Path) -> None:
    for name in ("gen__huge_mediabox.pdf", "pdfjs__bomb_giant.pdf", "gen__flate_bomb.pdf"):
        try:
            picture = await parser[1].render(shared_data / "badpdf" / name, 1, scale=4)
        except ExtractionFailed:
            continue
        width, height = int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big")
        assert width * height <= 40_100_000


async def test_presentation_forms_without_a_unicode_map_become_searchable_arabic(shared_data: Path) -> None:
    reader = Parser(limits=LIMITS)
    await reader.start()
    extraction = await reader.extract(shared_data / "multilingual" / "docs" / "xquad_ar.pdf")
    await reader.close()

    corpus = (shared_data / "multilingual" / "text" / "ar" / "corpus.jsonl").read_text()
    expected = [json.loads(line)["text"].split() for line in corpus.splitlines()]
    found = [page.text for page in extraction.pages]
    shares = [sum(word in text for word in words) / len(words) for words, text in zip(expected, found, strict=True)]
    assert sum(shares) / len(shares) > 0.9
