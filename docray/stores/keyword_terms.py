"""Text → the terms that the keyword index counts and a query looks up.

Owns normalising, splitting and stemming, per script and without knowing a text's language but for one question: is it English?
Leaves counting and weights to `keyword_postings`, ranking to `keyword_scoring`.

What measured best on XQuAD (nDCG@10 of BM25, 120 passages, 612 questions a language) decides:
- English text: Porter 2 stems without function words (SciFact .688; exact forms beside them add nothing: .684).
- Any other text in a script with spaces: every word whole and in 4-grams; in Arabic and Hebrew script, whose roots are short, in 3-grams
  only. At or above BM25 over 4-grams alone in de, es, ru, tr, ar, and far above Snowball stemmers (de .959 against .935).
- Scripts without spaces, and Hangul, whose endings stick to the word: pairs of neighbouring characters.
- Numbers whole, without thousands separators.
"""

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence

import Stemmer

_UNSPACED = (
    "\u0e00-\u0e4e\u0e50-\u0eff\u0f00-\u0f1f\u0f2a-\u0fff\u1000-\u103f\u1050-\u109f\u1780-\u17df"  # Thai, Lao, Tibetan, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # kana, Han
    "\u1100-\u11ff\uac00-\ud7af"  # Hangul
)
_VOWEL_SIGNS = "\u0900-\u0963\u0970-\u0dff\u200c\u200d"  # of the scripts of India, which are no letters to `re`
_TOKEN = re.compile(rf"\d+(?:[.,٫٬]\d+)*(?![^\W_])|[{_UNSPACED}]+|(?:[^\W_{_UNSPACED}]|[{_VOWEL_SIGNS}])+")
_RUN_TOGETHER = re.compile(f"[{_UNSPACED}]")
_SHORT_ROOTS = re.compile("[\u0590-\u06ff\u0750-\u077f\u08a0-\u08ff]")  # Hebrew, Arabic: three consonants make a root
_MARKS = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06ed]")
_LETTERS = str.maketrans({
    "ı": "i", "ł": "l", "ø": "o", "đ": "d", "æ": "ae", "œ": "oe",
    "ٱ": "ا", "ى": "ي", "ی": "ي", "ې": "ي", "ک": "ك", "ة": "ه", "ہ": "ه", "ھ": "ه", "ـ": None,
    "،": " ", "؛": " ", "\u00ad": None, "\u200b": None,
})  # fmt: skip

_FUNCTION_WORDS = frozenset(
    "a am an and are as at be been but by d did do does for from had has have he her his how i if in into is it its ll me my no not of on or our re s"  # noqa: SIM905
    " she so such t than that the their them then there these they this those to us ve was we were what when where which who whom whose why will"
    " with would you your".split()
)
_ENGLISH = frozenset(("the", "of", "and", "to", "that", "for", "with", "by", "from", "are", "this", "which", "have", "has", "were", "will", "been"))
_ENGLISH_SHARE = 0.05  # of a text's words; prose has 20 % and more, filings with many tables 10 %, other languages under 1 %

GRAM_WEIGHT = 0.25
"""A word of about six letters has four 4-grams: together they weigh as much as one stem."""

GRAMS_PRESENT = zlib.crc32(b"grams are present") - 2**31
"""A term of every part that was indexed by n-grams: a query looks for n-grams only where this one is found."""


def key_of(term: str) -> int:
    """A term as a 32-bit signed number. Two of a million terms of a tenant share one by chance of 1 in 4,000, which hardly shows."""
    return zlib.crc32(term.encode()) - 2**31


def normalise(text: str) -> str:
    """NFKC (presentation forms, full width, ligatures), case folded, without diacritics, one form of each Arabic letter."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", text).casefold()
    bare = _MARKS.sub("", unicodedata.normalize("NFD", folded))
    return unicodedata.normalize("NFC", bare).translate(_LETTERS)


def tokens_of(text: str) -> list[str]:
    """Words, numbers and runs of characters without spaces, normalised, in order."""
    return _TOKEN.findall(normalise(text))


def is_english(tokens: Sequence[str]) -> bool:
    """Whether a text is English enough for stems: by its share of English function words."""
    words = sum(not token[0].isdigit() for token in tokens)
    return sum(token in _ENGLISH for token in tokens) > _ENGLISH_SHARE * words


class Analyser:
    """Turns tokens into terms. Keeps the stemmer and its cache; not for two threads at once."""

    def __init__(self) -> None:
        self._english = Stemmer.Stemmer("english", 100_000)

    def document_terms(self, tokens: Sequence[str], *, english: bool) -> list[str]:
        """The terms of a text of a document, repeated as they stand."""
        if english:
            return list(self._stems(tokens))
        return [term for token in tokens for term in (_common(token) or _grams(token))]

    def word_keys(self, tokens: Sequence[str]) -> dict[int, float]:
        """What a query of these tokens looks up everywhere, as keys with weights. A term that stands twice weighs twice."""
        return {key_of(term): float(count) for term, count in Counter(self._stems(tokens)).items()}

    def gram_keys(self, tokens: Sequence[str]) -> dict[int, float]:
        """What it looks up besides, in a tenant that has text indexed by n-grams."""
        counts = Counter(term for token in tokens if not _common(token) for term in _grams(token))
        return {key_of(term): count * GRAM_WEIGHT for term, count in counts.items()}

    def _stems(self, tokens: Sequence[str]) -> Iterator[str]:
        for token in tokens:
            common = _common(token)
            if common:
                yield from common
            elif token not in _FUNCTION_WORDS:
                yield "s" + self._english.stemWord(token)


def _common(token: str) -> list[str]:
    """Terms that do not depend on the language: a number, or pairs of characters. Empty for a word."""
    if token[0].isdigit() and (token.isdigit() or not any(character.isalpha() for character in token)):
        return ["n" + re.sub("[,٬]", "", token)]
    if _RUN_TOGETHER.match(token):
        return ["c" + token[at : at + 2] for at in range(max(1, len(token) - 1))]
    return []


def _grams(word: str) -> list[str]:
    """A word in n-grams, its ends marked by spaces, and whole where they are longer than a root."""
    padded = f" {word} "
    if _SHORT_ROOTS.match(word):
        return ["g" + padded[at : at + 3] for at in range(len(padded) - 2)]
    return ["=" + word, *("g" + padded[at : at + 4] for at in range(max(1, len(padded) - 3)))]
