"""Text as docray stores it: NFKC, no white space inside a word, no NUL, no lone surrogates, no control or private characters.

Owns which characters survive and which scripts write without spaces. Leaves line ends and hyphens to `words`.
"""

import re
import unicodedata

UNKNOWN = "\ufffd"  # an engine's "there is a glyph here and nobody knows which letter"
# Zero width and bidirectional controls say nothing once words are in logical order. ZWNJ and ZWJ stay: they spell words and emoji.
_INVISIBLE = frozenset("\u200b\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_DROPPED_CATEGORIES = frozenset({"Cc", "Cs", "Co", "Cn"})
SOFT_HYPHEN = "\u00ad"
# Han, kana, bopomofo and their punctuation and full-width forms; Yi; the scripts of South-East Asia that write words together.
_ALONE = "\u2e80-\u2fdf\u3000-\u312f\u31a0-\u31bf\u31f0-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff9f\U00020000-\U0003ffff"
_IDEOGRAPHIC = re.compile(f"[{_ALONE}]")
_UNSPACED = re.compile(f"[{_ALONE}\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")


def clean(text: str) -> str:
    """A word's text as it is stored; "" when nothing of it is text. A soft hyphen at the end becomes "-", elsewhere it goes."""
    if text.isascii() and text.isprintable() and " " not in text:
        return text
    text = unicodedata.normalize("NFKC", join_surrogates(text))
    if text.endswith(SOFT_HYPHEN):
        text = text[:-1] + "-"
    return "".join(char for char in text if _is_text(char))


def _is_text(char: str) -> bool:
    if char.isspace() or char in _INVISIBLE or char == SOFT_HYPHEN:
        return False
    return char.isalnum() or unicodedata.category(char) not in _DROPPED_CATEGORIES


def join_surrogates(text: str) -> str:
    """Surrogate pairs become the character they mean; lone ones go."""
    if not any("\ud800" <= char <= "\udfff" for char in text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")


def is_unspaced(char: str) -> bool:
    """Whether the character belongs to a script that puts no spaces between words."""
    return bool(char) and _UNSPACED.match(char) is not None


def has_unspaced(text: str) -> bool:
    """Whether any of it is written without spaces between words."""
    return not text.isascii() and _UNSPACED.search(text) is not None


def is_ideographic(char: str) -> bool:
    """Whether the character stands alone: Han, kana, full-width forms."""
    return _IDEOGRAPHIC.match(char) is not None


def is_right_to_left(char: str) -> bool:
    """Whether the character is a letter written from right to left."""
    return unicodedata.bidirectional(char) in ("R", "AL")
