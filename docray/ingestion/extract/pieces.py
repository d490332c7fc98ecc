"""What an engine says of a page, before normalising: pieces of text with boxes, and a bitmap.

Owns these values and what an engine must offer. Boxes follow `docray.domain.documents`: points, top left of the displayed page,
line height. Leaves engines to their own files.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from docray.domain.documents import Box, FailureCode


class Piece(NamedTuple):
    """Text without white space as the engine gave it. `line` and `block` are the engine's numbers; `joined`: nothing, no space
    either, stands between this piece and the next."""

    text: str
    box: Box
    line: int
    block: int
    joined: bool = False


@dataclass(frozen=True, slots=True)
class RawPage:
    """A page as displayed, in points, and its pieces in the engine's order."""

    width: float
    height: float
    rotation: int
    pieces: Sequence[Piece]


@dataclass(frozen=True, slots=True)
class Bitmap:
    """8-bit RGB rows without padding. `scale` is pixels per point: less than asked for where the page is huge."""

    width: int
    height: int
    scale: float
    samples: bytearray


class Unreadable(Exception):
    """An engine cannot read a file or page; `args[0]` says why as a FailureCode."""

    @property
    def code(self) -> FailureCode:
        """Why."""
        return FailureCode(self.args[0])


class OpenDocument(Protocol):
    """An open PDF. Everything raises `Unreadable`."""

    page_count: int
    title: str
    repaired: bool  # the file was damaged and the engine rebuilt what it could
    tells_lost_content: bool  # a page whose content is missing raises, instead of being empty

    def page(self, index: int) -> RawPage:
        """The page, counted from 0."""
        ...

    def render(self, index: int, scale: float, max_pixels: int) -> Bitmap:
        """The page as displayed; `scale` is lowered until the picture has at most `max_pixels`."""
        ...

    def shows_images(self) -> bool:
        """Whether any page draws a picture."""
        ...

    def ran_out_of_memory(self) -> bool:
        """Whether an allocation failed that the engine passed over in silence."""
        ...

    def close(self) -> None:
        """Gives memory back."""
        ...


Glyph = tuple[str, Box]  # one character as the engine gave it (a ligature may be several letters), and where it stands


def fitting_scale(width: float, height: float, scale: float, max_pixels: int) -> float:
    """The scale asked for, or the largest that keeps the picture within `max_pixels`."""
    return min(scale, math.sqrt(max_pixels / (max(width, 1.0) * max(height, 1.0))))


def union(boxes: Iterable[Box]) -> Box:
    """The smallest box around boxes."""
    x0s, y0s, x1s, y1s = zip(*boxes, strict=True)
    return (min(x0s), min(y0s), max(x1s), max(y1s))
