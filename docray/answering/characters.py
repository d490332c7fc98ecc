"""Characters that nobody sees, and text without them.

Control, direction, tag and zero-width characters can hide an instruction from a reader, or cut a link in two so that no rule finds it.
"""

import unicodedata

_HIDDEN = ("Cc", "Cf", "Cs")
_JOINERS = "\u200c\u200d"  # they spell words in Persian and Indic scripts, and make one emoji of several


def visible(text: str) -> str:
    """The text without hidden characters. Line ends stay, tabs become spaces, joiners stay between letters that are not ASCII."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(text, position) for position in range(len(text)))


def _shown(text: str, position: int) -> str:
    character = text[position]
    if character in "\n\t":
        return character.replace("\t", " ")
    return character if unicodedata.category(character) not in _HIDDEN or _joins(text, position) else ""


def _joins(text: str, position: int) -> bool:
    if text[position] not in _JOINERS or not 0 < position < len(text) - 1:
        return False
    neighbours = (text[position - 1], text[position + 1])
    return all(ord(neighbour) > 127 and not neighbour.isspace() and unicodedata.category(neighbour) not in _HIDDEN for neighbour in neighbours)
