"""PDFs for bulk runs: the shared reports, some of them, or as many pages of them as wanted."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pymupdf

from benchmarks.instance import SHARED


def gathered(sources: Sequence[Path], folder: Path, pages_limit: int) -> int:
    """Copies PDFs of folders into one, by turns, until they have so many pages (0: all); returns how many they have."""
    folder.mkdir(parents=True)
    listed = [sorted(source.glob("*.pdf")) for source in sources]
    turns = [files[place] for place in range(max(map(len, listed))) for files in listed if place < len(files)]
    pages = 0
    for path in turns:
        with pymupdf.open(path) as document:
            count = len(document)
        if pages_limit and pages and pages + count > pages_limit:
            continue
        shutil.copy(path, folder / f"{path.parent.name}-{path.name}")
        pages += count
    return pages


def multiplied(sources: Sequence[Path], folder: Path, pages: int, pages_a_file: int = 20) -> int:
    """Fills a folder with PDFs of about so many pages: shared reports cut into files, each with a line and title of its own. Returns the pages."""
    folder.mkdir(parents=True)
    originals = [path for source in sources for path in sorted(source.glob("*.pdf"))]
    made, turn = 0, 0
    while made < pages:
        for path in originals:
            with pymupdf.open(path) as whole:
                for first in range(0, len(whole), pages_a_file):
                    if made >= pages:
                        return made
                    last = min(first + pages_a_file, len(whole), first + pages - made) - 1
                    made += _cut(whole, first, last, folder / f"{turn:03}-{path.stem}-{first:04}.pdf", f"Copy {turn} of {path.stem}, page {first}.")
        turn += 1
    return made


def _cut(whole: pymupdf.Document, first: int, last: int, path: Path, line: str) -> int:
    with pymupdf.open() as part:
        part.insert_pdf(whole, from_page=first, to_page=last)
        part[0].insert_text((40, 30), line, fontsize=8)
        part.set_metadata({"title": line})
        part.save(path, garbage=1, deflate=True)
    return last - first + 1


def sources_of(given: Sequence[Path] | None) -> list[Path]:
    """The folders given, or the shared reports."""
    return list(given) if given else [SHARED / "throughput"]
