"""The piece of a passage that is shown."""

from hypothesis import given
from hypothesis import strategies as st

from docray.answering.snippets import SNIPPET_CHARACTERS, query_stems, snippet

FILLER = "Nothing of interest stands in these many words at all. " * 8


def test_a_short_passage_is_shown_whole_on_one_line():
    assert snippet("One line.\n\nAnother\tline.", query_stems("line")) == "One line. Another line."


def test_the_window_is_where_the_words_are():
    shown = snippet(f"{FILLER}The zinc mines closed in winter. {FILLER}", query_stems("When did the zinc mine close?"))
    assert "The zinc mines closed in winter." in shown
    assert shown.startswith("…")
    assert shown.endswith("…")


def test_words_are_not_cut():
    shown = snippet(FILLER * 3, query_stems("interest"))
    assert set(shown.strip("…").split()) <= set(FILLER.split())


def test_scripts_without_spaces_have_windows_too():
    text = "今天天气很好。" * 60 + "董事会于三月批准了预算。" + "明天会下雨。" * 60
    assert "批准了预算" in snippet(text, query_stems("什么时候批准了预算?"))


@given(st.text(max_size=6000), st.text(max_size=100))
def test_no_passage_and_no_query_breaks_it(text, query):
    shown = snippet(text, query_stems(query))
    assert len(shown) <= SNIPPET_CHARACTERS + 2
    assert "\n" not in shown
    assert shown.strip("…").strip() in " ".join(text.split())
