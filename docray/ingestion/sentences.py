"""Where sentences begin in a run of words, for every script that marks their ends.

Owns one rule: a sentence ends with a word that closes one, unless what follows goes on in lower case or the word is an abbreviation.
Knows a few English abbreviations only: a cut too many costs a chunk nothing but its balance, never text.
"""

from collections.abc import Iterator, Sequence

from docray.domain.documents import Word

_STOPS = ".!?…。！？｡؟۔।॥։"
_WIDE_STOPS = "。！？｡"  # end a sentence without a space behind
_CLOSERS = "\"'”’»)]}」』）】"
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st no nos vs inc corp co ltd llc fig figs eq sec ch vol pp ed eds al etc cf approx dept est jan feb mar apr jun jul aug sep "  # noqa: SIM905
    "sept oct nov dec u.s u.k e.g i.e p.m a.m".split()
)


def ends_sentence(word: str) -> bool:
    """Whether a word closes a sentence by itself: a stop, perhaps before closing quotes and brackets, and no abbreviation."""
    core = word.rstrip(_CLOSERS)
    if not core or core[-1] not in _STOPS:
        return False
    if core[-1] != ".":
        return True
    stem = core.rstrip(".").lstrip("(\"'“‘[").casefold()
    return len(stem) > 1 and stem not in _ABBREVIATIONS


def sentence_starts(words: Sequence[Word], start: int, end: int) -> Iterator[int]:
    """Positions in `[start, end)` where sentences begin; `start` is one of them when the run is not empty."""
    if start < end:
        yield start
    for position in range(start + 1, end):
        before = words[position - 1]
        said = before.said
        if not said or not ends_sentence(said):
            continue
        if said[-1] in _WIDE_STOPS or (before.after and not begins_low(words[position].text)):
            yield position


def begins_low(word: str) -> bool:
    """Whether a word's first letter is in lower case: the sentence before it goes on."""
    letter = next((character for character in word if character.isalnum()), "")
    return letter.islower()
