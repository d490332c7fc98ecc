"""Where sentences end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docray.answering.sentences import MOST_CHARACTERS, sentence_ranges


def split(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_ranges(text)]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One ends. Two ends! Three?", ["One ends.", "Two ends!", "Three?"]),
        ("Dr. Smith of Acme Inc. paid $3.5 million. It was late.", ["Dr. Smith of Acme Inc. paid $3.5 million.", "It was late."]),
        ("See Fig. 3 and J. K. Rowling. Done.", ["See Fig. 3 and J. K. Rowling.", "Done."]),
        ("He said “No.” Then he left.", ["He said “No.”", "Then he left."]),
        ("approx. 5 m wide, e.g. a road. End", ["approx. 5 m wide, e.g. a road.", "End"]),
        ("第一句。第二句！第三句", ["第一句。", "第二句！", "第三句"]),
        ("كم عدد النقاط؟ سمح الدفاع بنقاط.", ["كم عدد النقاط؟", "سمح الدفاع بنقاط."]),
        ("В 1990 г. он уехал. Потом вернулся.", ["В 1990 г. он уехал.", "Потом вернулся."]),
        ("a line\nthat goes on. And\nanother", ["a line\nthat goes on.", "And\nanother"]),
        ("a block\n\nanother block", ["a block", "another block"]),
        ("~~~ no words 😀. Next.", ["~~~ no words 😀.", "Next."]),
        (" \n ", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text: str, sentences: list[str]) -> None:
    assert split(text) == sentences


def test_a_long_sentence_is_cut_at_its_clauses() -> None:
    clause = "the committee considered item number {}; "
    text = "".join(clause.format(number) for number in range(40)).strip() + "."
    pieces = split(text)
    assert all(len(piece) <= MOST_CHARACTERS for piece in pieces)
    assert all(piece.endswith(";") for piece in pieces[:-1])
    assert "".join("".join(pieces).split()) == "".join(text.split())


@given(st.text(alphabet=st.sampled_from("ab A.!?。 \n,;1")), st.integers(0, 20))
def test_ranges_are_ordered_and_leave_out_white_space_only(text: str, start: int) -> None:
    end, rest = start, ""
    for low, high in sentence_ranges(text, start):
        assert end <= low < high <= len(text)
        assert text[low:high].strip() == text[low:high]
        rest += text[end:low]
        end = high
    assert not (rest + text[end:] if start < len(text) else "").strip()


@given(st.integers(1, 3000), st.sampled_from("aж字"))
def test_a_text_without_any_stop_or_space_is_cut_too(length: int, letter: str) -> None:
    pieces = split(letter * length)
    assert "".join(pieces) == letter * length
    assert all(len(piece) <= MOST_CHARACTERS for piece in pieces)
