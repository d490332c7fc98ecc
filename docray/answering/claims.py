"""The text of a language model cut into claims while it streams.

Owns where one sentence of an answer ends, and which words each citation marker stands for. Decides character by character, so that
the same text gives the same claims however it was split on its way. Leaves cleaning to `docray.answering.output_gate` and checking to
`docray.answering.support`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from docray.answering.sentences import ends_sentence

_LONGEST_CHARACTERS = 4000  # without any stop: cut at the next word
_TAIL_CHARACTERS = 200  # are looked at to find an end: more than a stop with its markers and the word before it
_WIDE_STOPS = "。！？｡"
_CLOSERS = "\"'”’»)]}」』）】*_`"
_STOP_AT_END = re.compile(rf"([.!?…؟۔।॥։。！？｡:]+)[{re.escape(_CLOSERS)}]*$")
_MARKER = re.compile(
    r"[\[【［]\s*\^?\s*(?:passages?|sources?|citations?|ref)?\s*[#№]?\s*(\d{1,3}(?:\s*(?:[,;&、，]|and)\s*\^?\d{1,3})*)\s*(?:†[^\]】\n]{0,40})?[\]】］]",
    re.IGNORECASE,
)
_MARKERS_AT_END = re.compile(rf"(?:{_MARKER.pattern}\s*)+$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Clause:
    """Words of an answer and the passage numbers that were cited right behind them, each once, in order."""

    text: str
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Segment:
    """One sentence or line of an answer as clauses. `before` is the white space that parts it from the one before."""

    clauses: tuple[Clause, ...]
    before: str = ""


class ClaimStream:
    """Takes text as it comes, gives segments as they are complete."""

    def __init__(self) -> None:
        self._held = ""
        self._before = ""

    def feed(self, text: str) -> Iterator[Segment]:
        """Takes the next text; yields what it completes."""
        for character in text:
            if not character.isspace() and self._complete(character):
                yield from self._cut()
            self._held += character

    def finish(self) -> Iterator[Segment]:
        """What is left at the end."""
        yield from self._cut()

    def _complete(self, following: str) -> bool:
        """Whether what is held ends before the character that follows."""
        held = self._held
        if not held or following in "[【［":
            return False
        tail = held[-_TAIL_CHARACTERS:]
        spaced = tail[-1].isspace()
        if spaced and (len(held) > _LONGEST_CHARACTERS or "\n" in tail[len(tail.rstrip()) :]):
            return True
        if not spaced and (following in _CLOSERS or not _may_end_unspaced(tail[-1])):
            return False
        bare = _MARKERS_AT_END.sub("", tail).rstrip()
        stop = _STOP_AT_END.search(bare)
        if not stop or stop.group(1) == ":":
            return False
        return (spaced or stop.group(1)[-1] in _WIDE_STOPS) and ends_sentence(bare[: stop.start()], stop.group(1), following)

    def _cut(self) -> Iterator[Segment]:
        text = self._held.strip()
        lead = self._held[: len(self._held) - len(self._held.lstrip())]
        if text:
            yield Segment(tuple(_clauses(text)), self._before + lead)
            self._before = ""
        self._before += self._held[len(self._held.rstrip()) :] if text else self._held
        self._held = ""


def _may_end_unspaced(character: str) -> bool:
    """Whether a sentence may end with this character without white space behind it."""
    return character in _WIDE_STOPS or character in _CLOSERS or character in "］】"


def _clauses(text: str) -> Iterator[Clause]:
    """The text between markers, with the markers behind it; neighbouring markers are one."""
    held, end = "", 0
    numbers: list[int] = []
    for marker in _MARKER.finditer(text):
        between = text[end : marker.start()]
        if numbers and between.strip():
            yield Clause(held, tuple(dict.fromkeys(numbers)))
            held, numbers = between, []
        elif not numbers:
            held += between
        numbers += [int(number) for number in re.findall(r"\d+", marker.group(1))]
        end = marker.end()
    if numbers or held:
        yield Clause(held, tuple(dict.fromkeys(numbers)))
        held = ""
    if text[end:]:
        yield Clause(text[end:])
