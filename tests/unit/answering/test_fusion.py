"""Two rankings become one."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docray.answering.fusion import DENSE_SHARE, dense_share, fuse, single
from docray.domain.questions import Candidate

IDS = [UUID(int=n) for n in range(12)]
dense_leg = st.dictionaries(st.sampled_from(IDS), st.floats(-1, 1), max_size=8).map(
    lambda found: [Candidate(i, s, dense=s) for i, s in found.items()]
)
keyword_leg = st.dictionaries(st.sampled_from(IDS), st.floats(0.01, 40), max_size=8).map(
    lambda found: [Candidate(i, s, keyword=s) for i, s in found.items()]
)


@given(dense_leg, keyword_leg)
def test_every_passage_of_either_leg_comes_out_once_with_what_each_leg_knows(dense, keyword):
    fused = fuse(dense, keyword)
    assert {one.chunk_id for one in fused} == {candidate.chunk_id for candidate in (*dense, *keyword)}
    assert len(fused) == len({one.chunk_id for one in fused})
    near, words = {c.chunk_id: c.dense for c in dense}, {c.chunk_id: c.keyword for c in keyword}
    assert all((one.dense, one.keyword) == (near.get(one.chunk_id), words.get(one.chunk_id)) for one in fused)
    assert [one.score for one in fused] == sorted((one.score for one in fused), reverse=True)
    assert all(0 <= one.score <= 1 + 1e-9 for one in fused)


@given(dense_leg, keyword_leg)
def test_a_passage_that_both_legs_like_best_is_first(dense, keyword):
    best = UUID(int=99)
    fused = fuse([*dense, Candidate(best, 1.0, dense=1.0)], [*keyword, Candidate(best, 41.0, keyword=41.0)])
    assert fused[0].chunk_id == best
    assert fused[0].score == pytest.approx(1.0)


def test_what_one_leg_gives_of_the_other_s_passages_counts():
    fused = fuse([Candidate(IDS[0], 0.9, dense=0.9, keyword=2.0)], [Candidate(IDS[1], 4.0, dense=0.8, keyword=4.0)])
    assert [(one.dense, one.keyword) for one in fused] == [(0.8, 4.0), (0.9, 2.0)]


def test_the_share_decides_between_the_legs():
    dense, keyword = [Candidate(IDS[0], 0.9, dense=0.9), Candidate(IDS[1], 0.1, dense=0.1)], [Candidate(IDS[1], 9.0, keyword=9.0)]
    assert fuse(dense, keyword, 0.9)[0].chunk_id == IDS[0]
    assert fuse(dense, keyword, 0.2)[0].chunk_id == IDS[1]


def test_equal_scores_keep_one_order():
    candidates = [Candidate(chunk_id, 0.5, dense=0.5) for chunk_id in IDS]
    assert fuse(candidates, []) == fuse(list(reversed(candidates)), [])


def test_one_leg_alone_keeps_its_order_and_scores():
    candidates = [Candidate(IDS[3], 7.0, keyword=7.0), Candidate(IDS[1], 2.0, keyword=2.0)]
    assert [(one.chunk_id, one.score, one.dense, one.keyword) for one in single(candidates)] == [(IDS[3], 7.0, None, 7.0), (IDS[1], 2.0, None, 2.0)]


@pytest.mark.parametrize(("characters", "tokens", "share"), [(48, 10, DENSE_SHARE), (40, 10, DENSE_SHARE), (12, 10, 0.4), (25, 10, 0.4), (0, 0, 0.4)])
def test_the_dense_share_falls_where_the_tokeniser_knows_no_words(characters, tokens, share):
    assert dense_share(characters, tokens) == pytest.approx(share)
    assert dense_share(33, 10) < dense_share(36, 10) < DENSE_SHARE
