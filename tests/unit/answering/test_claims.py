"""A model's text cut into claims, whatever pieces it comes in."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docray.answering.claims import ClaimStream, Clause, Segment


def segments(*pieces: str) -> list[Segment]:
    stream = ClaimStream()
    return [segment for piece in pieces for segment in stream.feed(piece)] + list(stream.finish())


def shown(text: str) -> list[tuple[str, tuple[int, ...]]]:
    return [(clause.text, clause.numbers) for segment in segments(text) for clause in segment.clauses]


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("Revenue rose [1]. Costs fell [2].", [("Revenue rose ", (1,)), (".", ()), ("Costs fell ", (2,)), (".", ())]),
        ("Revenue rose. [1] Costs fell. [2]", [("Revenue rose. ", (1,)), ("Costs fell. ", (2,))]),
        ("Revenue rose [1], while costs fell [2].", [("Revenue rose ", (1,)), (", while costs fell ", (2,)), (".", ())]),
        ("Both say so [1][2].", [("Both say so ", (1, 2)), (".", ())]),
        ("Both say so [1, 2] [1].", [("Both say so ", (1, 2)), (".", ())]),
        ("So it is [passage 3]", [("So it is ", (3,))]),
        ("So it is 【4】", [("So it is ", (4,))]),
        ("收入增长。[1]成本下降。[2]", [("收入增长。", (1,)), ("成本下降。", (2,))]),
        ("- one [1]\n- two [2]", [("- one ", (1,)), ("- two ", (2,))]),
        ("No marker here.", [("No marker here.", ())]),
        ("The array[x] is not one.", [("The array[x] is not one.", ())]),
        ("It cost $3.5 million [1].", [("It cost $3.5 million ", (1,)), (".", ())]),
    ],
)
def test_markers_belong_to_the_words_before_them(text: str, claims: list[tuple[str, tuple[int, ...]]]) -> None:
    assert shown(text) == claims


def test_a_sentence_is_given_as_soon_as_the_next_one_begins() -> None:
    stream = ClaimStream()
    assert list(stream.feed("Revenue rose. [1] ")) == []
    assert list(stream.feed("C")) == [Segment((Clause("Revenue rose. ", (1,)),), "")]


def test_paragraphs_keep_the_white_space_between_them() -> None:
    assert [segment.before for segment in segments("One.\n\nTwo. Three.")] == ["", "\n\n", " "]


WORDS = ["Revenue rose", ". ", "[1]", "[2, 3]", " ", "\n", "。", "cost", "3.5", "!", "e.g. ", "https://x.y", "(", ")", "【", "】", "\u200b"]
PIECES = st.lists(st.sampled_from(WORDS))


@given(PIECES, st.lists(st.integers(0, 200)))
def test_the_same_text_gives_the_same_claims_however_it_is_split(pieces: list[str], cuts: list[int]) -> None:
    text = "".join(pieces)
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    parts = [text[low:high] for low, high in pairwise(places)]
    assert segments(*parts) == segments(text)
    assert segments(*text) == segments(text)


def test_a_text_without_any_stop_is_not_held_back_for_ever() -> None:
    assert all(len(clause.text) < 4100 for segment in segments("word " * 3000) for clause in segment.clauses)
