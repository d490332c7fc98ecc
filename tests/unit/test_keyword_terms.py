"""What texts are cut into for the keyword index, and what is stored of it."""

import uuid

import numpy as np
import pytest

from docray.domain.documents import Chunk, PageSpan
from docray.stores.keyword_cells import Numbering
from docray.stores.keyword_postings import RECORD, make_part
from docray.stores.keyword_rows import TermRows, decode
from docray.stores.keyword_scoring import Scores, Size, Worth
from docray.stores.keyword_terms import GRAMS_PRESENT, Analyser, is_english, key_of, tokens_of

ENGLISH = "The committee met on Monday and approved the budget of the town for the year."


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Apple's 10-Q: 12,345.67 (Q3)", ["apple", "s", "10", "q", "12,345.67", "q3"]),
        ("ﬁnancial Oﬃce", ["financial", "office"]),
        ("Größe, café, İstanbul, ışık", ["grosse", "cafe", "istanbul", "isik"]),
        ("١٢٣ نقطة", ["١٢٣", "نقطه"]),
        ("第308分です", ["第", "308", "分です"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("snake_case a\u00adb", ["snake", "case", "ab"]),
        ("\0 \U0001f600 …", []),
    ],
)
def test_texts_are_normalised_and_split(text, tokens):
    assert tokens_of(text) == tokens


def test_english_is_told_from_others():
    assert is_english(tokens_of(ENGLISH))
    assert not is_english(tokens_of("Der Ausschuss hat am Montag getagt und den Haushalt der Stadt beschlossen."))
    assert not is_english(tokens_of("Комитет собрался в понедельник."))
    assert not is_english([])


def test_inflected_forms_meet():
    analyser = Analyser()
    assert set(analyser.word_keys(tokens_of("committees approving budgets"))) <= {
        key_of(term) for term in analyser.document_terms(tokens_of(ENGLISH), english=True)
    }
    shared = set(analyser.document_terms(tokens_of("Kürbisernte"), english=False)) & set(
        analyser.document_terms(tokens_of("Kürbisse"), english=False)
    )
    assert len(shared) >= 4


def test_function_words_of_a_query_are_left_out_and_repeated_words_weigh_more():
    keys = Analyser().word_keys(tokens_of("What is the budget of the budget office?"))
    assert len(keys) == 2
    assert sorted(keys.values()) == [1.0, 2.0]


def a_chunk(n: int, text: str, page: int, context: str = "") -> Chunk:
    return Chunk(n=n, text=text, spans=(PageSpan(page, 0, 1),), pages=(), context=context)


def test_records_hold_chunks_in_order_with_weights_of_chunk_and_page():
    chunks = [a_chunk(0, f"{ENGLISH} Zinc.", 1), a_chunk(1, ENGLISH, 1), a_chunk(2, f"{ENGLISH} Zinc, zinc and zinc.", 2)]
    part = make_part(uuid.uuid4(), 1, chunks, Analyser())
    assert (part.chunks, part.pages, part.first_n, part.last_n) == (3, 2, 0, 2)
    assert GRAMS_PRESENT not in part.terms
    zinc = np.frombuffer(dict(zip(part.terms, part.postings, strict=True))[key_of("szinc")], RECORD)
    assert zinc["n"].tolist() == [0, 2]
    assert zinc["page"].tolist() == [1, 2]
    assert zinc["chunk"][1] > zinc["chunk"][0] > 0
    budget = np.frombuffer(dict(zip(part.terms, part.postings, strict=True))[key_of("sbudget")], RECORD)
    assert budget["n"].tolist() == [0, 1, 2]
    assert budget["whole_page"][0] == budget["whole_page"][1] > budget["whole_page"][2]


def test_context_counts_once_a_page():
    chunks = [a_chunk(n, f"{ENGLISH} {'Filler. ' * 20}", 1, context="Zinc report") for n in range(5)]
    alone = make_part(uuid.uuid4(), 1, chunks[:1], Analyser())
    together = make_part(uuid.uuid4(), 1, chunks, Analyser())

    def of_page(part):
        return int(np.frombuffer(dict(zip(part.terms, part.postings, strict=True))[key_of("szinc")], RECORD)["whole_page"][0])

    assert of_page(together) <= of_page(alone)


def test_the_same_chunks_give_the_same_part_and_other_parts_other_keys():
    document, chunks = uuid.uuid4(), [a_chunk(0, ENGLISH, 1)]
    assert make_part(document, 1, chunks, Analyser()) == make_part(document, 1, chunks, Analyser())
    keys = {make_part(document, generation, chunks, Analyser()).key for generation in range(1, 30)}
    assert len(keys) == 29
    assert all(0 <= key < 2**63 for key in keys)


def term_rows(part: int, *records: tuple[int, int, int, int]) -> TermRows:
    return rows_of([part], [len(records)], *records)


def rows_of(parts: list[int], sizes: list[int], *records: tuple[int, int, int, int]) -> TermRows:
    lengths = np.array(sizes, ">i4") * RECORD.itemsize
    (rows,) = decode([(np.array(parts, ">i8").tobytes(), lengths.astype(">i4").tobytes(), np.array(list(records), RECORD).tobytes())], None)
    return rows


def scores_of(terms: list[TermRows], numbering: Numbering | None = None) -> Scores:
    return Scores(terms, Worth.of(terms, [1.0] * len(terms), Size(100, 50)), numbering or Numbering())


def test_rare_terms_count_more_and_ties_keep_their_order():
    common = term_rows(7, *((n, n // 2, 100, 100) for n in range(40)))
    rare = term_rows(7, (31, 15, 100, 100))
    ranking = scores_of([common, rare]).best(5)
    assert ranking.ns.tolist() == [31, 30, 0, 1, 2]  # 30 is on the same page as 31
    assert set(ranking.parts.tolist()) == {7}


def test_scores_of_single_chunks_are_those_of_the_ranking():
    scores = scores_of([term_rows(3, (0, 1, 80, 90), (4, 2, 120, 130)), term_rows(9, (1, 1, 200, 200))])
    ranking = scores.best(10)
    assert scores.of(ranking.parts.tolist(), ranking.ns.tolist()) == pytest.approx(ranking.scores.tolist())
    assert scores.of([3, 3, 9, 9, 5, -1], [1, 99, 0, 2, 0, 0]) == [None] * 6


def test_nothing_found_is_an_empty_ranking():
    scores = scores_of([])
    assert scores.best(5).ns.tolist() == []
    assert scores.of([1], [1]) == [None]
    assert scores.best_parts(5).tolist() == []


def test_frequencies_are_estimated_where_rows_were_left_unread():
    keys = np.sort(np.random.default_rng(5).integers(0, 2**63, 20_000))
    read = keys[:512]
    (rows,) = decode([(read.astype(">i8").tobytes(), np.full(512, 8, ">i4").tobytes(), np.zeros(512, RECORD).tobytes())], limit=512)
    assert rows.rows == pytest.approx(20_000, rel=0.15)
    assert rows.frequency == pytest.approx(20_000, rel=0.15)


def test_very_many_places_are_compacted_without_changing_scores():
    wide = [rows_of([1, 2], [2, 1], (0, 1, 50, 50), (4_000_000, 9, 60, 60), (5_000_000, 9, 70, 70))]
    near = [rows_of([1, 2], [2, 1], (0, 1, 50, 50), (4, 9, 60, 60), (5, 9, 70, 70))]
    assert scores_of(wide).best(5).scores.tolist() == pytest.approx(scores_of(near).best(5).scores.tolist())
    assert scores_of(wide).of([2, 2], [5_000_000, 4]) == [pytest.approx(scores_of(near).of([2], [5])[0]), None]
