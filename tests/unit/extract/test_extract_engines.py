"""Both engines on small PDFs: the same words, the same boxes, the same pictures."""

import zlib
from collections.abc import Iterator

import pytest

from docray.domain.documents import Box, FailureCode
from docray.ingestion.extract.engines import open_with
from docray.ingestion.extract.limits import ParserLimits
from docray.ingestion.extract.picture import highlighted, png
from docray.ingestion.extract.pieces import Bitmap, Unreadable
from docray.ingestion.extract.reader import Engine, Event, Finished, Opened, Reader, ReadPage
from tests.pdf_factory import Text, assembled, lines, pdf, scan, stream

ENGINES: tuple[Engine, ...] = ("pymupdf", "pypdfium2")
SENTENCE = ("Zomerax inspected the reactor", "at the Kabilor station in 1931.")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.param  # type: ignore[no-any-return]


def read(engine: Engine, data: bytes, limits: ParserLimits | None = None, structure: bool = False) -> list[Event]:
    return list(Reader(engine, limits or ParserLimits(), open_with, structure).read(memoryview(data)))


def page_text(engine: Engine, data: bytes) -> str:
    return next(event.page.text for event in read(engine, data) if isinstance(event, ReadPage))


def failure(engine: Engine, data: bytes, limits: ParserLimits | None = None) -> FailureCode:
    with pytest.raises(Unreadable) as raised:
        read(engine, data, limits)
    return raised.value.code


def outcome(engine: Engine, data: bytes) -> list[str] | FailureCode:
    """The text of every page, or why there is none."""
    try:
        return [event.page.text for event in read(engine, data) if isinstance(event, ReadPage)]
    except Unreadable as error:
        return error.code


def overlap(first: Box, second: Box) -> float:
    across = min(first[2], second[2]) - max(first[0], second[0])
    down = min(first[3], second[3]) - max(first[1], second[1])
    common = max(0.0, across) * max(0.0, down)
    return common / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)) - common)


@pytest.mark.parametrize("font", ["Helvetica", "Helvetica-BoldOblique", "Times-Roman", "Times-Bold", "Courier", "Courier-Bold", "Arial"])
@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_the_engines_agree_on_words_boxes_and_page_size(font: str, rotate: int) -> None:
    data = memoryview(pdf([lines(*SENTENCE)], font=font, rotate=rotate, crop=(36, 100, 560, 760)))

    ours, theirs = (open_with(engine, data).page(0) for engine in ENGINES)

    assert (ours.width, ours.height, ours.rotation) == (theirs.width, theirs.height, theirs.rotation)
    assert (ours.width, ours.height) == ((524, 660) if rotate in (0, 180) else (660, 524))
    assert [piece.text for piece in ours.pieces] == [piece.text for piece in theirs.pieces]
    assert min(overlap(one.box, other.box) for one, other in zip(ours.pieces, theirs.pieces, strict=True)) > 0.9


def test_a_words_box_has_line_height_where_the_page_shows_it(engine: Engine) -> None:
    page = open_with(engine, memoryview(pdf([[Text(100, 700, "ace")]]))).page(0)

    left, top, right, bottom = page.pieces[0].box
    assert left == pytest.approx(100, abs=0.5)
    assert right == pytest.approx(100 + 11 * (0.556 + 0.5 + 0.556), abs=0.5)
    assert top == pytest.approx(92 - 11 * 0.945, abs=0.3)
    assert bottom == pytest.approx(92 + 11 * 0.224, abs=0.3)


def test_words_above_the_crop_box_are_not_read(engine: Engine) -> None:
    data = pdf([lines("Outsideword above.", "", "", "The zinc depart-", "ment keeps records.")], crop=(0, 0, 612, 700))

    assert page_text(engine, data) == "The zinc department keeps records."


def test_meanings_given_by_the_file_are_unfolded_and_joined(engine: Engine) -> None:
    data = pdf([lines("an o~ce with @ here")], meanings={"~": "\ufb03", "@": "\U0001f600"})

    assert page_text(engine, data) == "an office with \U0001f600 here"


def test_lone_surrogates_and_nul_do_not_come_through(engine: Engine) -> None:
    text = page_text(engine, pdf([lines("be~fore af@ter words")], meanings={"~": "\ud800", "@": "\0"}))

    text.encode()
    assert "\0" not in text
    assert "words" in text


def test_all_pages_are_read_in_order_and_the_title_comes_last(engine: Engine) -> None:
    events = read(engine, pdf([lines(f"Page number {number} of this report") for number in range(1, 6)], title="A report"))

    assert events[0] == Opened(5)
    assert [event.page.number for event in events if isinstance(event, ReadPage)] == [1, 2, 3, 4, 5]
    assert events[-1] == Finished("A report")


def test_paragraphs_apart_on_the_page_are_blocks_of_their_own(engine: Engine) -> None:
    data = pdf([lines("First paragraph here,", "in two lines.", "", "", "Second paragraph.")])

    assert page_text(engine, data) == "First paragraph here, in two lines.\n\nSecond paragraph."


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", FailureCode.NOT_A_PDF),
        (b"<html>hello</html>", FailureCode.NOT_A_PDF),
        (b"%PDF-1.7\nnothing else", FailureCode.DAMAGED),
        (scan(2), FailureCode.NO_TEXT),
        (pdf([]), FailureCode.DAMAGED),
        (pdf([[]]), FailureCode.NO_TEXT),
        (pdf([lines("1")]), FailureCode.NO_TEXT),
        (pdf([lines("Some text")]).replace(b"/Count 1", b"/Count 2147483647"), FailureCode.DAMAGED),
    ],
    ids=["empty", "html", "header only", "scan", "no pages", "blank", "a stray mark", "a lie about pages"],
)
def test_what_cannot_be_read_says_why(engine: Engine, data: bytes, code: FailureCode) -> None:
    assert failure(engine, data) is code


def test_too_many_pages_are_refused_before_any_is_read(engine: Engine) -> None:
    data = pdf([lines(f"Page {number}") for number in range(3)])

    assert failure(engine, data, ParserLimits(max_pages=2)) is FailureCode.TOO_MANY_PAGES
    with pytest.raises(Unreadable):
        next(Reader(engine, ParserLimits(max_pages=2), open_with, False).read(memoryview(data)))


def test_too_much_text_is_refused(engine: Engine) -> None:
    assert failure(engine, pdf([lines(*["many words in a row"] * 40)]), ParserLimits(max_text_bytes=500)) is FailureCode.TOO_LARGE


def test_a_page_that_is_missing_fails_the_whole_file(engine: Engine) -> None:
    data = pdf([lines("The first page is fine."), lines("The second is not.")])
    assert b"/Kids [5 0 R 7 0 R]" in data

    assert failure(engine, data.replace(b"/Kids [5 0 R 7 0 R]", b"/Kids [5 0 R 9 0 R]")) is FailureCode.DAMAGED
    assert failure(engine, data.replace(b"/Contents 6 0 R", b"/Contents 9 0 R")) is FailureCode.DAMAGED


def test_a_file_cut_off_in_the_middle_is_never_a_success_with_less(engine: Engine) -> None:
    content = [stream(b"\n".join(b"BT /F 11 Tf 72 %d Td (Line %d of page %d) Tj ET" % (720 - 12 * n, n, page) for n in range(40)), compress=True)
               for page in range(4)]  # fmt: skip
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Count 4 /Kids [4 0 R 5 0 R 6 0 R 7 0 R] >>",
               b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]  # fmt: skip
    objects += [
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R /Resources << /Font << /F 3 0 R >> >> >>" % n for n in range(8, 12)
    ]
    whole = assembled([*objects, *content])
    assert page_text(engine, whole).startswith("Line 0 of page 0")

    for share in (0.9, 0.75, 0.7, 0.6, 0.5):
        assert outcome(engine, whole[: int(len(whole) * share)]) in (outcome(engine, whole), FailureCode.DAMAGED)
    assert outcome(engine, whole[: int(len(whole) * 0.6)]) is FailureCode.DAMAGED


def test_a_picture_is_as_large_as_scale_and_page_say(engine: Engine) -> None:
    bitmap = open_with(engine, memoryview(pdf([lines(*SENTENCE)], rotate=90))).render(0, 1.5, 40_000_000)

    assert (bitmap.width, bitmap.height) == (1188, 918)
    assert len(bitmap.samples) == 1188 * 918 * 3
    assert min(bitmap.samples) < 60


def test_a_huge_page_is_drawn_smaller_instead_of_filling_the_memory(engine: Engine) -> None:
    bitmap = open_with(engine, memoryview(pdf([lines(*SENTENCE)], media=(0, 0, 14400, 14400)))).render(0, 4, 1_000_000)

    assert 900_000 < bitmap.width * bitmap.height <= 1_010_000
    assert bitmap.scale < 0.1


def paper(width: int, height: int) -> Bitmap:
    return Bitmap(width, height, 2.0, bytearray(b"\xff" * (width * height * 3)))


def marked_pixels(bitmap: Bitmap) -> Iterator[tuple[int, int]]:
    for at in range(0, len(bitmap.samples), 3):
        if bitmap.samples[at : at + 3] != b"\xff\xff\xff":
            yield (at // 3) % bitmap.width, (at // 3) // bitmap.width


def test_a_highlight_changes_its_box_and_nothing_else() -> None:
    bitmap = highlighted(paper(40, 30), [(2, 3, 6, 5), (4, 4, 8, 6), (-5, -5, 1, 1), (900, 900, 950, 950)])

    boxes = [(4, 6, 12, 10), (8, 8, 16, 12), (0, 0, 2, 2)]
    expected = {(x, y) for x0, y0, x1, y1 in boxes for x in range(x0, x1) for y in range(y0, y1)}
    assert set(marked_pixels(bitmap)) == expected
    assert len({bytes(bitmap.samples[3 * (y * 40 + x) :][:3]) for x, y in expected}) == 1


def test_dark_text_under_a_highlight_stays_dark() -> None:
    bitmap = Bitmap(2, 1, 1.0, bytearray(b"\x10\x20\x30\xff\xff\xff"))

    highlighted(bitmap, [(0, 0, 2, 1)])

    assert max(bitmap.samples[:3]) <= 0x30
    assert bitmap.samples[3:] == bytearray((255, 225, 90))


def test_the_png_holds_the_pixels() -> None:
    data = png(Bitmap(2, 2, 1.0, bytearray(range(12))))

    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    packed = data[data.index(b"IDAT") + 4 : data.index(b"IEND") - 8]
    assert zlib.decompress(packed) == b"\0" + bytes(range(6)) + b"\0" + bytes(range(6, 12))
