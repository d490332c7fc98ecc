"""The output gate: what a model writes leaves without links, images, HTML and foreign brackets."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from docray.answering.output_gate import clean, holds, is_clean

FORBIDDEN = [
    "![x](http://evil.example/a.png)",
    "![x][ref]",
    "[click](https://evil.example/?q=secret)",
    "[click][1]\n\n[1]: https://evil.example",
    "[1]: https://evil.example",
    "<https://evil.example>",
    "https://evil.example/path?x=1#y",
    "HTTP://EVIL.EXAMPLE",
    "hxxp://evil.example",
    "//evil.example/x.png",
    "http:\\\\evil.example",
    "www.evil.example",
    "evil.example/steal?data=1",
    "evil.example:8080/x",
    "evil.example?q=secret",
    "data:text/html;base64,PHNjcmlwdD4=",
    "javascript:alert(1)",
    "mailto:a@evil.example",
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "<a href='x'>y</a>",
    "<!-- hidden -->",
    "<svg/onload=alert(1)>",
    "ht\u200btps://evil.example",
    "https:\u2060//evil.example",
    "ht<b>tps://evil.example",
    "hthttp://xtps://evil.example",
    "<<b>img src=x>",
    "\U000e0068\U000e0069",
    "\u202egnp.live//:sptth",
    "【1】(https://evil.example)",
]
ALPHABET = st.sampled_from(
    [
        *"ab.:/\\<>[]()!?#1 \n-=\"'",
        "http",
        "https://",
        "www.",
        "data:",
        "<img ",
        "](",
        "![",
        "\u200b",
        "\u202e",
        "evil.example",
        "【",
        "】",
        "\U000e0041",
    ]
)
TEXTS = st.one_of(st.text(), st.lists(ALPHABET).map("".join))

# Written apart from the gate's own rules, as a renderer of Markdown would look for something to load or open.
LOADS = re.compile(r"https?:/|ftp:/|://|www\.\S|<[a-zA-Z/!]|!\[|\]\(|\]:|data:\S|javascript:\S|mailto:\S", re.IGNORECASE)


@pytest.mark.parametrize("text", FORBIDDEN)
def test_nothing_to_load_or_to_open_is_left(text: str) -> None:
    for dressed in (text, f"Before {text} after.", f"({text})"):
        cleaned = clean(dressed)
        assert not LOADS.search(cleaned)
        assert "evil.example/" not in cleaned
        assert not set("[]【】") & set(cleaned)
        assert holds(cleaned)


@pytest.mark.parametrize(
    "text",
    [
        "p < 0.05 and x<5",
        "5 > 3",
        "Costs rose 3.5 %, i.e. by 2/3.",
        "e.g./i.e.",
        "a/b",
        "Ask info@port.example.",
        "C:\\ is a drive",
        "Ratio 3:2",
        "**bold**",
        "می\u200cخواهم",
    ],
)
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert clean(text) == text
    assert is_clean(text)


def test_brackets_become_round_ones() -> None:
    assert clean("the array[0] of [sic]") == "the array(0) of (sic)"


@pytest.mark.parametrize("text", [text for text in FORBIDDEN if text.isascii() and "][" not in text])
def test_a_quote_with_something_forbidden_is_not_clean(text: str) -> None:
    assert not is_clean(f"The report says {text} here.")


def test_a_quote_may_hold_brackets_of_its_own() -> None:
    assert is_clean("As shown before [3], the effect is small [4].")


@settings(max_examples=3000, deadline=None)
@given(TEXTS)
@example("<<a>a>")
@example("http:http://x//x")
def test_whatever_goes_in_what_comes_out_loads_nothing(text: str) -> None:
    cleaned = clean(text)
    assert not LOADS.search(cleaned)
    assert not set("[]") & set(cleaned)
    assert clean(cleaned) == cleaned
    assert holds(cleaned)


@settings(max_examples=500, deadline=None)
@given(TEXTS, TEXTS)
def test_clean_parts_with_a_marker_between_them_load_nothing_or_do_not_hold(one: str, other: str) -> None:
    joined = f"{clean(one)} [1]{clean(other)}"
    assert not holds(joined) or not LOADS.search(joined)
