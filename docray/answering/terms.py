"""What a text is about, as comparable terms: content words, names and numbers, for every script.

Owns how words are compared when a question, a claim and a sentence are held together. Leaves the search's own keywords to the index.

A term is a casefolded word without diacritics, cut to its first letters so that inflected forms meet (prefixes of five or six letters do
as well as stemmers in most languages, and need to know none); a number without its thousands separators; and in scripts that put no
space between words every pair of neighbouring characters.
"""

import functools
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

_STEM_CHARACTERS = 6
_FEWEST_FUNCTION_WORDS = 2
_USUAL_LANGUAGE = "English"
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)*\d*|[^\W_]+")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+"
)  # Thai, Lao, Tibetan, Burmese, Khmer, kana, Han; Hangul too, whose endings stick to the word
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_ARABIC_PREFIXES = ("وال", "بال", "كال", "فال", "لل", "ال")
_ENGLISH_ENDINGS = ("ing", "ed", "es", "s", "e")

@dataclass(frozen=True, slots=True)
class Term:
    """A comparable term and the word it came from. `name` is a word in capitals that no sentence begins with, `number` has digits only."""

    stem: str
    word: str
    number: bool = False
    name: bool = False


def terms_of(text: str) -> list[Term]:
    """The terms of a text in order, repeated as they stand, function words included."""
    found: list[Term] = []
    for match in _TOKEN.finditer(unicodedata.normalize("NFKC", text)):
        word = match.group()
        if _NUMBER.fullmatch(word):
            found.append(Term(number_value(word), word, number=True))
        elif _UNSPACED.search(word):
            found += _unspaced(word)
        else:
            found += _spaced(word, begins=_begins_sentence(match.string, match.start()))
    return found


def content_terms_of(text: str) -> list[Term]:
    """The terms of a text without the function words of its language, which is the one that it has most of them of."""
    terms = terms_of(text)
    plain = [_plain(term.word) for term in terms]
    known = _function_words()
    counts = {language: sum(word in words for word in plain) for language, words in known.items()}
    language = max(counts, key=lambda name: counts[name])
    if counts[language] < _FEWEST_FUNCTION_WORDS:
        language = _USUAL_LANGUAGE  # "war crimes" is not German
    return [term for term, word in zip(terms, plain, strict=True) if word not in known[language]]


def stems_of(text: str) -> frozenset[str]:
    """The terms of a text as a set."""
    return frozenset(term.stem for term in terms_of(text))


def number_value(text: str) -> str:
    """A number as it is compared: digits without thousands separators, one point before decimals, no zeros around."""
    whole, _, tail = text.replace(",", ".").rpartition(".")
    groups = re.split("[.,]", text)
    if not whole or (len(tail) == 3 and all(len(group) == 3 for group in groups[1:]) and len(groups[0]) <= 3 and groups[0] != "0"):
        digits = "".join(groups)
    else:
        digits = f"{whole.replace('.', '')}.{tail}".rstrip("0").rstrip(".")
    plain = "".join(str(unicodedata.digit(digit, 0)) if digit.isdigit() else digit for digit in digits)
    return re.sub(r"^0+(?=\d)", "", plain)


def _spaced(word: str, *, begins: bool) -> list[Term]:
    plain = _plain(word)
    if len(plain) < 2 and not word.isupper():
        return []
    name = (word[0].isupper() and not begins) or any(character.isdigit() for character in word)
    return [Term(_stem(plain), word, name=name)]


def _unspaced(word: str) -> list[Term]:
    found = []
    for piece in re.split(f"({_UNSPACED.pattern})", word):
        if _UNSPACED.fullmatch(piece):
            found += [Term(piece[at : at + 2], piece[at : at + 2]) for at in range(max(1, len(piece) - 1))]
        elif piece:
            found += _spaced(piece, begins=False) if not _NUMBER.fullmatch(piece) else [Term(number_value(piece), piece, number=True)]
    return found


def _plain(word: str) -> str:
    """Casefolded, without diacritics and without a possessive ending."""
    letters = unicodedata.normalize("NFKD", word.casefold().replace("ı", "i"))
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return re.split("['’]", plain)[0] if re.search("['’](?:s|[^\\W\\d_]{1,3})$", plain) else plain


def _stem(plain: str) -> str:
    for prefix in _ARABIC_PREFIXES:
        if plain.startswith(prefix) and len(plain) - len(prefix) >= 3:
            plain = plain[len(prefix) :]
            break
    if plain.isascii() and plain.isalpha():
        for ending in _ENGLISH_ENDINGS:
            if plain.endswith(ending) and len(plain) - len(ending) >= 3 and not plain.endswith("ss"):
                plain = plain[: -len(ending)]
                break
    return plain[:_STEM_CHARACTERS]


@functools.cache
def _function_words() -> Mapping[str, frozenset[str]]:
    """Function words by language, as they are compared."""
    text = resources.files("docray.answering").joinpath("function_words.md").read_text(encoding="utf-8")
    paragraphs = (section.partition("\n") for section in text.split("\n## ")[1:])
    return {language.strip(): frozenset(_plain(word) for word in words.split()) for language, _, words in paragraphs}


def _begins_sentence(text: str, start: int) -> bool:
    before = text[:start].rstrip(" \"'“‘(¿¡«")
    return not before or before[-1] in ".!?:\n"
