"""Terms: what is compared when texts are."""

import pytest

from docray.answering.terms import content_terms_of, number_value, stems_of, terms_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("inspected", "inspection"),
        ("exports", "export"),
        ("prove", "proved"),
        ("Café", "CAFE"),
        ("Apple's", "Apple"),
        ("الدفاع", "دفاع"),
        ("экспедиция", "экспедиции"),
        ("Ｗｉｄｅ", "wide"),
        ("1,234,567", "1234567"),
        ("1.234.567", "1234567"),
        ("3.50", "3.5"),
    ],
)
def test_forms_of_one_word_are_one_term(one: str, other: str) -> None:
    assert stems_of(one) == stems_of(other)


@pytest.mark.parametrize(
    ("text", "value"), [("0.125", "0.125"), ("007", "7"), ("82,959", "82959"), ("1.5", "1.5"), ("2023", "2023"), ("0", "0"), ("12,5", "12.5")]
)
def test_numbers_are_compared_by_value(text: str, value: str) -> None:
    assert number_value(text) == value


def test_a_script_without_spaces_gives_pairs_of_characters() -> None:
    assert [term.stem for term in terms_of("超级碗")] == ["超级", "级碗"]


def test_function_words_of_the_language_of_the_text_are_left_out() -> None:
    assert [term.word for term in content_terms_of("Who won the war?")] == ["won", "war"]
    assert [term.word for term in content_terms_of("Wer war der König?")] == ["König"]


def test_names_and_numbers_are_known_as_such() -> None:
    terms = {term.word: (term.name, term.number) for term in terms_of("When did Zomerax open in 1901, in Q3?")}
    assert terms["Zomerax"] == (True, False)
    assert terms["1901"] == (False, True)
    assert terms["Q3"] == (True, False)
    assert terms["open"] == (False, False)
    assert terms["When"] == (False, False)
