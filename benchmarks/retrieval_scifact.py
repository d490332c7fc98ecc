"""SciFact through the whole product: `python -m benchmarks.retrieval_scifact [--documents N]` (a docray is up).

Each of the 5,183 abstracts is rendered as a one-page PDF with its title, uploaded, and found again by 300 claims. nDCG@10 of others on the
plain texts: BM25 .679, all-MiniLM-L6-v2 .645, reciprocal rank fusion of both .712.
"""

import argparse
import html
from collections.abc import Callable, Mapping
from typing import Any

import pymupdf

from benchmarks.instance import SHARED, figure
from benchmarks.retrieval_run import MODES, own_tenant, read_lines, report, score, search_all, upload

FOLDER = SHARED / "ir" / "scifact"
_STYLE = "h1 {font-size: 16px; font-family: serif} p {font-size: 11px; font-family: serif}"


def render(entry: Mapping[str, Any]) -> bytes:
    """The title as a heading, the abstract below; the same bytes every time."""
    document = pymupdf.open()
    page = document.new_page(width=595, height=842)
    page.insert_htmlbox(pymupdf.Rect(60, 60, 535, 790), f"<h1>{html.escape(entry['title'])}</h1><p>{html.escape(entry['text'])}</p>", css=_STYLE)
    document.set_metadata({"title": entry["title"]})
    data: bytes = document.tobytes(garbage=3, deflate=True, no_new_id=True)
    return data


def _maker(entry: Mapping[str, Any]) -> Callable[[], bytes]:
    return lambda: render(entry)


def main() -> None:
    """Prints a JSON line for each mode."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=0, help="only the first ones, to try it out; 0: all")
    arguments = parser.parse_args()
    entries = read_lines(FOLDER / "corpus.jsonl")[: arguments.documents or None]
    with own_tenant("scifact") as client:
        ids = upload(client, ((f"{entry['_id']}.pdf", _maker(entry)) for entry in entries))
        figure(benchmark="retrieval_scifact", documents=len(ids))
        queries = [(query["_id"], query["text"]) for query in read_lines(FOLDER / "queries.jsonl")]
        for mode in MODES:
            found = search_all(client, queries, mode=mode, limit=100)
            run = [(query_id, [{"doc": hit["document"]["filename"].removesuffix(".pdf")} for hit in hits]) for query_id, hits in found]
            report("retrieval_scifact", score(run, "--qrels", str(FOLDER / "qrels.tsv")), mode=mode)


if __name__ == "__main__":
    main()
