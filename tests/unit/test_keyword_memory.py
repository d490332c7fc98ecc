"""What a process remembers of postings: of one tenant, for one epoch of its corpus, for ten minutes, within its bytes."""

from uuid import uuid4

import numpy as np

from docray.stores.keyword_cells import MOST_SHARED_CELLS, Numbering
from docray.stores.keyword_memory import KeywordMemory
from docray.stores.keyword_postings import RECORD
from docray.stores.keyword_rows import NO_ROWS, TermRows, decode
from docray.stores.keyword_scoring import Scores, Size, Worth

SIZE = Size(1_000, 500)


def rows(part: int = 7, *, first: int = 0, records: int = 1) -> TermRows:
    column = np.array([(n, n // 3, 9 + n % 50, 9 + n // 3 % 50) for n in range(first, first + records)], RECORD).tobytes()
    return decode([(np.array([part], ">i8").tobytes(), np.array([len(column)], ">i4").tobytes(), column)], None)[0]


def ranking_of(terms: list[TermRows], numbering: Numbering) -> list[tuple[int, int, float]]:
    best = Scores(terms, Worth.of(terms, [1.0, 2.0, 3.0][: len(terms)], SIZE), numbering).best(50)
    return list(zip(best.parts.tolist(), best.ns.tolist(), best.scores.tolist(), strict=True))


def test_terms_are_remembered_with_those_that_no_chunk_has():
    memory, tenant, kept = KeywordMemory(), uuid4(), rows()
    corpus = memory.keep(tenant, 3, SIZE, {1: kept, 2: NO_ROWS}, 512)
    assert memory.corpus(tenant) is corpus
    assert corpus.rows([1, 2, 3], 512) == {1: kept, 2: NO_ROWS}
    assert corpus.rows([1], 16) == {}  # fewer rows were asked for: another estimate


def test_another_epoch_is_another_corpus():
    memory, tenant = KeywordMemory(), uuid4()
    before = memory.keep(tenant, 3, SIZE, {1: rows()}, 512)
    assert memory.keep(tenant, 3, SIZE, {2: rows()}, 512) is before
    after = memory.keep(tenant, 4, SIZE, {3: rows()}, 512)
    assert memory.corpus(tenant) is after
    assert list(after.rows([1, 2, 3], 512)) == [3]


def test_tenants_share_nothing():
    memory, one, other = KeywordMemory(), uuid4(), uuid4()
    memory.keep(one, 3, SIZE, {1: rows()}, 512)
    assert memory.corpus(other) is None
    assert memory.keep(other, 3, SIZE, {2: rows()}, 512).rows([1], 512) == {}


def test_what_is_forgotten_or_ten_minutes_old_is_not_known():
    now = [0.0]
    memory, tenant = KeywordMemory(clock=lambda: now[0]), uuid4()
    memory.keep(tenant, 3, SIZE, {1: rows()}, 512)
    memory.forget(tenant)
    assert memory.corpus(tenant) is None
    memory.keep(tenant, 3, SIZE, {1: rows()}, 512)
    now[0] = 599.0
    assert memory.corpus(tenant) is not None
    now[0] = 600.0
    assert memory.corpus(tenant) is None
    assert memory.keep(tenant, 3, SIZE, {2: rows()}, 512).rows([1], 512) == {}


def test_memory_is_bounded_in_bytes_and_the_terms_and_tenants_asked_for_last_stay():
    memory, tenants = KeywordMemory(most_bytes=300_000, most_bytes_of_tenant=100_000), [uuid4() for _ in range(10)]
    for tenant in tenants:
        for term in range(20):
            corpus = memory.keep(tenant, 1, SIZE, {term: rows(records=500)}, 512)
            assert memory.size_bytes <= 300_000
        assert set(corpus.rows(range(20), 512)) == set(range(12, 20))
    assert [memory.corpus(tenant) is not None for tenant in tenants] == [False] * 7 + [True] * 3
    too_large = memory.keep(tenants[0], 1, SIZE, {1: rows(records=50_000)}, 512)
    assert too_large.rows([1], 512) == {}


def test_a_shared_numbering_gives_the_scores_of_a_new_one_however_terms_come():
    shared, dice = Numbering(shared=True), np.random.default_rng(3)
    terms = [rows(int(part), first=int(first), records=int(count)) for part, first, count in dice.integers(1, 60, (40, 3))]
    for _ in range(120):
        asked = [terms[place] for place in dice.choice(len(terms), 3, replace=False)]
        assert ranking_of(asked, shared) == ranking_of(asked, Numbering())


def test_scores_outlive_a_change_of_the_layout_by_another_search():
    shared, first = Numbering(shared=True), [rows(7, records=40)]
    scores = Scores(first, Worth.of(first, [1.0], SIZE), shared)
    before = [column.tolist() for column in (scores.best(50).parts, scores.best(50).ns)]
    ranking_of([rows(3, records=90), rows(7, first=200, records=9)], shared)
    assert [column.tolist() for column in (scores.best(50).parts, scores.best(50).ns)] == before
    assert scores.of([7, 3], [5, 5])[1] is None


def test_a_corpus_of_many_cells_is_numbered_for_each_search_alone():
    corpus = KeywordMemory().keep(uuid4(), 1, SIZE, {}, 512)
    assert corpus.numbering() is corpus.numbering()
    corpus.numbering().number([rows(records=MOST_SHARED_CELLS)])
    assert corpus.numbering() is not corpus.numbering()
