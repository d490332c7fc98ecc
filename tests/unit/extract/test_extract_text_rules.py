"""What becomes of characters: normalising, pieces of scripts without spaces, words at line ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docray.domain.documents import BlockKind, Box, Word, text_of
from docray.ingestion.extract.glyphs import pieces_of_line
from docray.ingestion.extract.normalise import clean
from docray.ingestion.extract.pieces import Piece, RawPage
from docray.ingestion.extract.words import Group, page_words, source_words


def glyphs(text: str, *, leftwards: bool = False) -> list[tuple[str, Box]]:
    """A glyph of 10 points per character, drawn to the right or to the left."""
    places = range(len(text) - 1, -1, -1) if leftwards else range(len(text))
    return [(char, (10.0 * at, 0.0, 10.0 * at + 10, 12.0)) for char, at in zip(text, places, strict=True)]


def said(*texts: str) -> str:
    """The text of one-word lines, in order, as one paragraph."""
    pieces = [Piece(text, (0.0, 20.0 * number, 50.0, 20.0 * number + 12), number, 0) for number, text in enumerate(texts)]
    source = source_words(RawPage(100, 1000, 0, pieces))
    words, _ = page_words(source.words, [Group(BlockKind.PARAGRAPH, 0, [list(range(len(source.words)))])])
    return text_of(words)


@pytest.mark.parametrize(
    ("drawn", "stored"),
    [
        ("o\ufb03ce", "office"),
        ("\ufee3\ufeae", "\u0645\u0631"),
        ("a\0b\x01", "ab"),
        ("\ud83d\ude00", "\U0001f600"),
        ("x\ud83d", "x"),
        ("\ue000\uf8ff", ""),
        ("\u200b\u00a0\u2003", ""),
        ("co\u00adop\u00ad", "coop-"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),
        ("½", "1⁄2"),
    ],
)
def test_a_word_is_stored_as_nfkc_without_what_is_no_text(drawn: str, stored: str) -> None:
    assert clean(drawn) == stored


@given(st.text(st.characters(), max_size=40))
def test_whatever_is_drawn_the_stored_word_is_valid_and_holds_no_white_space(drawn: str) -> None:
    stored = clean(drawn)

    stored.encode()
    assert "\0" not in stored
    assert not any(char.isspace() for char in stored)


def test_chinese_is_cut_into_characters_and_punctuation_stays_with_the_one_before() -> None:
    pieces = list(pieces_of_line(glyphs("他说「好」。NFL很强"), 3, 0))

    assert [piece.text for piece in pieces] == ["他", "说", "「好」。", "NFL", "很", "强"]
    assert [piece.joined for piece in pieces] == [True, True, True, True, True, False]
    assert pieces[3].box == (60.0, 0.0, 90.0, 12.0)


def test_a_long_thai_run_is_cut_before_base_letters_only() -> None:
    pieces = list(pieces_of_line(glyphs("กำ" * 40), 0, 0))

    assert len(pieces) > 1
    assert "".join(piece.text for piece in pieces) == "กำ" * 40
    assert all(len(piece.text) <= 26 for piece in pieces)


def test_a_right_to_left_word_in_visual_order_is_turned_round() -> None:
    assert [piece.text for piece in pieces_of_line(glyphs("םולש"), 0, 0)] == ["שלום"]
    assert [piece.text for piece in pieces_of_line(glyphs("שלום", leftwards=True), 0, 0)] == ["שלום"]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (("depart-", "ment"), "department"),
        (("non-", "GAAP"), "non-GAAP"),
        (("state-of-the-", "art"), "state-of-the-art"),
        (("2019-", "2020"), "2019-2020"),
        (("end", "-", "next"), "end - next"),
        (("守", "只"), "守只"),
        (("守", "Panthers"), "守 Panthers"),
        (("plain", "words"), "plain words"),
    ],
)
def test_a_line_break_becomes_a_space_or_nothing(lines: tuple[str, ...], text: str) -> None:
    assert said(*lines) == text


def test_a_split_word_keeps_its_hyphen_as_a_piece_but_not_in_the_text() -> None:
    pieces = [Piece("depart-", (0, 0, 50, 12), 0, 0), Piece("ment", (0, 20, 40, 32), 1, 0)]
    source = source_words(RawPage(100, 100, 0, pieces))
    words, _ = page_words(source.words, [Group(BlockKind.PARAGRAPH, 0, [[0, 1]])])

    assert words[0] == Word("depart-", (0, 0, 50, 12), 0, "", True)
    assert words[1].line == 1


def test_words_outside_the_visible_page_are_not_text() -> None:
    pieces = [Piece("above", (0, -20, 50, -8), 0, 0), Piece("inside", (0, 20, 50, 32), 1, 0), Piece("right", (101, 20, 150, 32), 1, 0)]

    assert [word.text for word in source_words(RawPage(100, 100, 0, pieces)).words] == ["inside"]
