"""How much one file may cost. Owns the numbers; leaves holding them to the sandbox and the reader."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ParserLimits:
    """Limits of one document: pages, wall seconds, bytes of memory beyond the clean parser's own, bytes of UTF-8 text in all."""

    max_pages: int = 5000
    time_s: float = 120.0
    memory_bytes: int = 2 << 30
    max_text_bytes: int = 64 << 20
