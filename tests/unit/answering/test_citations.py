"""Quotes and where they stand."""

import pytest
from answering_library import LETTER, LINE, PRINCIPAL, Library, a_hit, page_of
from hypothesis import given
from hypothesis import strategies as st

from docray.answering.citations import fold, locate, quotes_of
from docray.answering.evidence import Evidence, evidence_from, read_evidence
from docray.domain.documents import BlockKind, Page, Word
from docray.domain.questions import SearchRequest


async def evidence_of(library: Library, *pages: Page) -> Evidence:
    await library.add("report.pdf", *pages)
    results = await library.search(PRINCIPAL, SearchRequest(query=pages[0].text, limit=1))
    return (await read_evidence(library, PRINCIPAL, results.hits))[0]


def sentences(evidence: Evidence) -> list[str]:
    return [sentence.text for sentence in evidence.sentences]


async def test_a_quote_has_one_box_per_line(library: Library) -> None:
    evidence = await evidence_of(library, page_of(1, "First of all. The harbour opened\nin 1901 under captain\nSmith. It closed."))
    [first, second, third] = evidence.sentences
    assert [first.text, second.text, third.text] == ["First of all.", "The harbour opened in 1901 under captain Smith.", "It closed."]
    [quote] = quotes_of(evidence, second.start, second.end)
    assert (quote.text, quote.page) == (second.text, 1)
    start = 50 + LETTER * len("First of all. ")
    assert [round(box[0]) for box in quote.boxes] == [round(start), 50, 50]
    assert [round(box[1]) for box in quote.boxes] == [50, 50 + LINE, 50 + 2 * LINE]
    assert quote.boxes[2][2] == pytest.approx(50 + LETTER * len("Smith."))


async def test_a_quote_over_a_page_end_has_a_part_on_each_page(library: Library) -> None:
    first = page_of(1, "The lighthouse of the northern cape was built by engi-")
    second = page_of(2, "neers from abroad and lit in 1888. Then came the storm.")
    evidence = await evidence_of(library, first, second)
    sentence = evidence.sentences[0]
    assert sentence.text == "The lighthouse of the northern cape was built by engineers from abroad and lit in 1888."
    quotes = quotes_of(evidence, sentence.start, sentence.end)
    assert [(quote.page, quote.text) for quote in quotes] == [
        (1, "The lighthouse of the northern cape was built by engi"),
        (2, "neers from abroad and lit in 1888."),
    ]
    assert fold("".join(quote.text for quote in quotes)) == fold(sentence.text)
    assert all(len(quote.boxes) == 1 for quote in quotes)


async def test_a_row_of_a_table_is_quoted_whole(library: Library) -> None:
    evidence = await evidence_of(library, page_of(1, "Item 2023 2022\nNet sales. Total 82,959 81,434\nCosts 12 13", kind=BlockKind.TABLE))
    assert sentences(evidence) == ["Item 2023 2022", "Net sales. Total 82,959 81,434", "Costs 12 13"]


async def test_the_box_of_a_word_that_is_quoted_in_part_is_cut(library: Library) -> None:
    word = Word("港口于一九零一年开放。灯塔很高。", (100.0, 100.0, 420.0, 112.0), 0, "\n\n")
    page = Page(number=1, width=600, height=800, rotation=0, words=(word,))
    evidence = await evidence_of(library, page)
    assert sentences(evidence) == ["港口于一九零一年开放。", "灯塔很高。"]
    [first] = quotes_of(evidence, evidence.sentences[0].start, evidence.sentences[0].end)
    [second] = quotes_of(evidence, evidence.sentences[1].start, evidence.sentences[1].end)
    assert first.boxes == ((100.0, 100.0, 320.0, 112.0),)
    assert second.boxes == ((320.0, 100.0, 420.0, 112.0),)


async def test_the_box_of_a_part_of_a_word_written_from_the_right_is_cut_from_there(library: Library) -> None:
    page = Page(number=1, width=600, height=800, rotation=0, words=(Word("نعم.لا", (100.0, 100.0, 160.0, 112.0), 0, "\n"),))
    evidence = await evidence_of(library, page)
    [quote] = quotes_of(evidence, 0, 3)
    assert quote.boxes == ((130.0, 100.0, 160.0, 112.0),)


async def test_hidden_characters_are_left_out_of_a_quote(library: Library) -> None:
    evidence = await evidence_of(library, page_of(1, "The har\u200bbour \u202eopened\U000e0041 early."))
    assert sentences(evidence) == ["The harbour opened early."]
    [quote] = quotes_of(evidence, evidence.sentences[0].start, evidence.sentences[0].end)
    assert quote.text == "The harbour opened early."


async def test_a_passage_of_a_generation_that_was_replaced_is_no_evidence(library: Library) -> None:
    document = await library.add("report.pdf", page_of(1, "The harbour opened early."))
    results = await library.search(PRINCIPAL, SearchRequest(query="harbour", limit=1))
    library.replace(document)
    assert await read_evidence(library, PRINCIPAL, results.hits) == []


async def test_a_quote_that_the_passage_does_not_hold_is_none(library: Library) -> None:
    evidence = await evidence_of(library, page_of(1, "The harbour opened early."))
    assert locate(evidence, "the harbour closed") is None
    assert locate(evidence, " ") is None
    other = Evidence(
        hit=evidence.hit,
        pages=evidence.pages,
        spans=evidence.spans,
        words=evidence.words,
        text=evidence.text.replace("early", "later"),
        offsets=evidence.offsets,
    )
    assert quotes_of(other, 0, len(other.text)) == ()


WORD = st.text(alphabet=st.sampled_from("abcXYZ123.,字のあé-"), min_size=1, max_size=9)


@given(st.lists(WORD, min_size=1, max_size=60), st.data())
async def test_every_range_is_quoted_verbatim_with_boxes_on_the_page(words: list[str], data: st.DataObject) -> None:
    lines = [" ".join(words[start : start + 6]) for start in range(0, len(words), 6)]
    page = page_of(1, "\n".join(lines))
    evidence = _single(page)
    start = data.draw(st.integers(0, len(evidence.text) - 1))
    end = data.draw(st.integers(start + 1, len(evidence.text)))
    for quote in quotes_of(evidence, start, end):
        assert fold(quote.text) == fold(evidence.text[start:end])
        assert fold(quote.text) in fold(page.text)
        assert all(0 <= x0 < x1 <= page.width and 0 <= y0 < y1 <= page.height for x0, y0, x1, y1 in quote.boxes)
    for sentence in evidence.sentences:
        found = locate(evidence, sentence.text)
        assert found is None if not fold(sentence.text) else fold(evidence.text[slice(*found)]) == fold(sentence.text)


def _single(page: Page) -> Evidence:
    """A page as one passage, without a library."""
    found = evidence_from(a_hit(page), {page.number: page})
    assert found is not None
    return found
