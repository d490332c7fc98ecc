"""The name under which an upload is kept: no path, no control characters, at most 255 bytes."""

import unicodedata

DEFAULT = "document.pdf"
_MAX_BYTES = 255
_MAX_EXTENSION_BYTES = 16
_REMOVED = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, lone surrogates, line and paragraph separators
_DIRECTIONS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # make `fdp.exe` look like `exe.pdf`


def clean_filename(name: str | None) -> str:
    """The last part of a path without what is not to be seen, cut on a code point before its extension; `document.pdf` for nothing."""
    last = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    seen = "".join(letter for letter in last if letter not in _DIRECTIONS and unicodedata.category(letter) not in _REMOVED).strip()
    return _cut(seen) if seen.strip(". ") else DEFAULT


def _cut(name: str) -> str:
    if len(name.encode()) <= _MAX_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    if not stem or len((dot + extension).encode()) > _MAX_EXTENSION_BYTES:
        stem, dot, extension = name, "", ""
    room = _MAX_BYTES - len((dot + extension).encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip() + dot + extension
