"""The chunker's rules, over documents that hypothesis makes up and a few made by hand."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docray.domain.documents import Block, BlockKind, Chunk, Page, Word, text_of, words_of
from docray.ingestion.chunking import Chunker

WIDTH, HEIGHT = 600.0, 800.0


def count_tokens(texts: Sequence[str]) -> list[int]:
    """A tokeniser that makes a token of every four characters of a word."""
    return [sum(-(-len(word) // 4) for word in text.split()) for text in texts]


def chunker(max_tokens: int = 40) -> Chunker:
    return Chunker(max_tokens=max_tokens, count_tokens=count_tokens)


def page_of(number: int, *blocks: tuple[BlockKind, str, int]) -> Page:
    """A page of blocks (kind, text, level); a table's rows are the lines of its text. Ten words a line."""
    words: list[Word] = []
    made: list[Block] = []
    line = 0
    for kind, text, level in blocks:
        start, rows = len(words), []
        for row in text.split("\n"):
            row_start, line = len(words), line + 1
            for n, said in enumerate(row.split()):
                line += n % 10 == 9
                words.append(Word(said, (20 + n % 10 * 50, line * 12 % 780, 60 + n % 10 * 50, line * 12 % 780 + 10), line))
            words[-1] = Word(words[-1].text, words[-1].box, words[-1].line, "\n")
            rows.append((row_start, len(words)))
        words[-1] = Word(words[-1].text, words[-1].box, words[-1].line, "\n\n")
        made.append(Block(kind, start, len(words), level, tuple(rows) if kind is BlockKind.TABLE else ()))
    return Page(number=number, width=WIDTH, height=HEIGHT, rotation=0, words=tuple(words), blocks=tuple(made))


words_strategy = st.lists(
    st.sampled_from(["net", "revenue", "grew", "by", "12.5", "percent.", "The", "Company", "Inc.", "internationalisation", "第一。"]),
    min_size=1,
    max_size=60,
)
block_strategy = st.builds(
    lambda kind, rows, level: (kind, "\n".join(" ".join(row) for row in rows), level if kind is BlockKind.HEADING else 0),
    st.sampled_from(list(BlockKind)),
    st.lists(words_strategy, min_size=1, max_size=4),
    st.integers(1, 3),
)
document_strategy = st.lists(st.lists(block_strategy, max_size=5), min_size=1, max_size=4).map(
    lambda pages: [page_of(n, *blocks) for n, blocks in enumerate(pages, 1)]
)


def positions(chunks: Sequence[Chunk]) -> list[tuple[int, int]]:
    return [(span.page, word) for chunk in chunks for span in chunk.spans for word in range(span.start, span.end)]


@given(document_strategy, st.integers(32, 90))
@settings(deadline=None, max_examples=150)
def test_every_word_is_in_exactly_one_chunk_in_order(pages: list[Page], size: int) -> None:
    chunks = chunker(size).chunk(pages, title=None, filename="a.pdf")
    assert positions(chunks) == [(page.number, word) for page in pages for word in range(len(page.words))]
    assert [chunk.n for chunk in chunks] == list(range(len(chunks)))
    by_number = {page.number: page for page in pages}
    for chunk in chunks:
        assert chunk.text == text_of(word for _, word in words_of(by_number, chunk.spans))
        assert len({span.page for span in chunk.spans}) == len(chunk.spans)


@given(document_strategy, st.integers(32, 90), st.text(max_size=300))
@settings(deadline=None, max_examples=150)
def test_no_chunk_is_larger_than_asked_with_its_context(pages: list[Page], size: int, title: str) -> None:
    for chunk in chunker(size).chunk(pages, title=title, filename="a long name of a file.pdf"):
        assert sum(count_tokens([chunk.indexed_text])) <= chunk.tokens <= size
        assert sum(count_tokens([chunk.context])) <= size // 2


@given(document_strategy)
@settings(deadline=None, max_examples=80)
def test_boxes_lie_on_their_pages_and_there_is_one_list_for_each_page(pages: list[Page]) -> None:
    for chunk in chunker().chunk(pages, title=None, filename="a.pdf"):
        assert [boxes.page for boxes in chunk.pages] == [span.page for span in chunk.spans]
        for boxes in chunk.pages:
            assert boxes.boxes
            assert all(0 <= x0 < x1 <= boxes.width and 0 <= y0 < y1 <= boxes.height for x0, y0, x1, y1 in boxes.boxes)


@given(document_strategy)
@settings(deadline=None, max_examples=40)
def test_the_same_document_gives_the_same_chunks(pages: list[Page]) -> None:
    assert chunker().chunk(pages, title="T", filename="a.pdf") == chunker().chunk(pages, title="T", filename="a.pdf")


@given(document_strategy)
@settings(deadline=None, max_examples=80)
def test_a_table_row_that_fits_is_not_cut(pages: list[Page]) -> None:
    chunks = chunker(80).chunk(pages, title=None, filename="a.pdf")
    starts = {(span.page, span.start) for chunk in chunks for span in chunk.spans}
    for page in pages:
        for block in page.blocks:
            for start, end in block.rows:
                if sum(count_tokens([text_of(page.words[start:end])])) <= 80 * 3 // 4:
                    assert not starts & {(page.number, word) for word in range(start + 1, end)}


def test_a_document_without_words_has_no_chunks() -> None:
    assert chunker().chunk([Page(number=1, width=WIDTH, height=HEIGHT, rotation=0)], title=None, filename="a.pdf") == []


def test_headings_make_the_path_and_the_context() -> None:
    sentence = "Revenue grew in every region this year. " * 3
    pages = [
        page_of(
            1,
            (BlockKind.HEADING, "Annual report", 1),
            (BlockKind.PARAGRAPH, sentence, 0),
            (BlockKind.HEADING, "Results", 2),
            (BlockKind.PARAGRAPH, sentence * 2, 0),
        ),
        page_of(2, (BlockKind.PARAGRAPH, sentence, 0), (BlockKind.HEADING, "Outlook", 2), (BlockKind.PARAGRAPH, sentence, 0)),
    ]
    chunks = chunker(60).chunk(pages, title="The Company 2024", filename="x.pdf")
    paths = [chunk.heading_path for chunk in chunks]
    assert paths[0] == ("Annual report",)
    assert ("Annual report", "Results") in paths
    assert paths[-1] == ("Annual report", "Outlook")
    continued = next(chunk for chunk in chunks if chunk.spans[0].page == 2)
    assert continued.context == "The Company 2024\nx\nAnnual report\nResults"
    assert chunks[0].context == "The Company 2024\nx"
    assert chunks[0].indexed_text.startswith("The Company 2024\nx\nAnnual report")


@pytest.mark.parametrize(
    ("title", "filename", "context"),
    [
        (None, "annual_report-2024.PDF", "annual report 2024"),
        (" ", "report.pdf", "report"),
        ("0000320193-22-000070", "AAPL_2022_Q3.pdf", "AAPL 2022 Q3"),
        ("Annual report", "AAPL_2022.pdf", "Annual report\nAAPL 2022"),
        ("The annual report 2024", "annual-report-2024.pdf", "The annual report 2024"),
        ("The annual report 2024", "erc_682de8e45fd9688f3452bc0e18257132a8f3cff6.pdf", "The annual report 2024\nerc"),
        (None, "3F2504E0-4F89-11D3-9A0C-0305E82C3301_lease.pdf", "lease"),
        (None, "682de8e45fd9688f3452bc0e18257132a8f3cff6.pdf", ""),
        (None, "case-2024001234567890123.pdf", "case 2024001234567890123"),
        (None, "feedbacedeadbeefcafe.pdf", "feedbacedeadbeefcafe"),
    ],
)
def test_title_and_file_name_are_context(title: str | None, filename: str, context: str) -> None:
    (chunk,) = chunker(80).chunk([page_of(1, (BlockKind.PARAGRAPH, "One sentence.", 0))], title=title, filename=filename)
    assert chunk.context == context


def test_a_heading_stands_with_what_follows_it() -> None:
    filler = "Every region grew by a few percent this year. " * 4
    chunks = chunker(60).chunk(
        [page_of(1, (BlockKind.PARAGRAPH, filler, 0), (BlockKind.HEADING, "Risks", 1), (BlockKind.PARAGRAPH, filler, 0))],
        title=None,
        filename="a.pdf",
    )
    assert next(chunk for chunk in chunks if "Risks" in chunk.text).text.startswith("Risks")


def test_a_sentence_over_the_end_of_a_page_stays_whole_and_pages_part_otherwise() -> None:
    open_end = [
        page_of(1, (BlockKind.PARAGRAPH, "It began here. This sentence goes", 0)),
        page_of(2, (BlockKind.PARAGRAPH, "on over the page. Next one.", 0)),
    ]
    chunks = chunker(60).chunk(open_end, title=None, filename="a.pdf")
    assert [[span.page for span in chunk.spans] for chunk in chunks] == [[1, 2], [2]]
    assert "This sentence goes\n\non over the page." in chunks[0].text
    closed = [page_of(1, (BlockKind.PARAGRAPH, "It ended here.", 0)), page_of(2, (BlockKind.PARAGRAPH, "Another page.", 0))]
    assert [len(chunk.spans) for chunk in chunker(60).chunk(closed, title=None, filename="a.pdf")] == [1, 1]


def test_a_continued_table_repeats_its_header_for_the_index() -> None:
    table = "Region Revenue Growth\n" + "\n".join(f"Area{n} 100{n} 5.{n}%" for n in range(12))
    chunks = chunker(48).chunk([page_of(1, (BlockKind.TABLE, table, 0))], title=None, filename="t.pdf")
    assert len(chunks) > 1
    assert all("Region Revenue Growth" in chunk.indexed_text for chunk in chunks)
    assert sum("Region Revenue Growth" in chunk.text for chunk in chunks) == 1


def test_a_word_longer_than_a_chunk_is_a_chunk_of_its_own() -> None:
    chunks = chunker(32).chunk([page_of(1, (BlockKind.PARAGRAPH, f"Before it {'x' * 400} and after.", 0))], title=None, filename="a.pdf")
    assert [chunk.text for chunk in chunks] == ["Before it", "x" * 400, "and after."]
