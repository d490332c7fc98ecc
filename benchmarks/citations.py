"""Are citations right? Known sentences of PDFs, questions made of their rare words, asked over HTTP of a running docray.

    python -m benchmarks.citations --url URL --api-key KEY [--pairs 240] [--per-document 12]
    python -m benchmarks.citations --data-dir .docray

Needs the development data beside the checkout (`../shared`): its PDFs, its writer of invented facts, and its reading of PDFs by
pypdfium2, which is the judge here: another engine than the product's default, so agreement means something. Every question is asked
within its own document. One JSON line per document, the last one is the sum:

`right_page`      share of questions with a citation on the page of the known sentence; a refusal counts as wrong
`right_sentence`  share of questions whose known sentence is quoted, whole or in part
`verbatim`        share of citations whose quote stands in the text of their page
`same_order`      the same in the text that pypdfium2 reads, in its order of words
`iou`             median over citations: their boxes against the loose boxes of the same words
`misses`          questions with no citation on the right page and what was cited instead; quotes in another order of words
"""

import argparse
import importlib
import json
import random
import re
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docray.client import Client

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
SENTENCE = re.compile(r"(?:(?<=[.!?]\s)|(?<=\n))[A-Z][^.!?]{60,260}[a-z][.!?](?=\s)")
WORD = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")
MOST_PAGES = 40  # of a document that are asked about: pypdfium2 gives boxes character by character, slowly
RARE_WORDS = 7


@dataclass(frozen=True)
class Pair:
    """A question and where its answer stands."""

    question: str
    sentence: str
    page: int


@dataclass
class Score:
    """Counts of one document, or of all."""

    asked: int = 0
    right_page: int = 0
    right_sentence: int = 0
    refused: int = 0
    citations: int = 0
    verbatim: int = 0
    same_order: int = 0
    ious: list[float] = field(default_factory=list)
    misses: list[str] = field(default_factory=list)

    def add(self, other: "Score") -> None:
        """Takes in another one."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def line(self, name: str) -> str:
        """As JSON."""
        figures = {
            "document": name,
            "questions": self.asked,
            "right_page": _share(self.right_page, self.asked),
            "right_sentence": _share(self.right_sentence, self.asked),
            "refused": self.refused,
            "citations": self.citations,
            "verbatim": _share(self.verbatim, self.citations),
            "same_order": _share(self.same_order, self.citations),
            "iou": round(statistics.median(self.ious), 4) if self.ious else None,
            "iou_lowest": round(min(self.ious), 4) if self.ious else None,
            "misses": self.misses[:20],
        }
        return json.dumps(figures, ensure_ascii=False)


def main() -> None:
    """Asks and prints."""
    options = _options()
    sys.path.insert(0, str(SHARED / "tools" / "contract"))
    pdfs = importlib.import_module("pdfs")
    total, judged = Score(), 0
    with client_of(options) as docray, tempfile.TemporaryDirectory() as folder:
        for path, pairs in _documents(pdfs, Path(folder), options):
            if judged >= options.pairs:
                break
            score = _score(docray, pdfs, path, pairs[: options.pairs - judged])
            judged += score.asked
            total.add(score)
            print(score.line(path.name), flush=True)
    print(total.line("all"))


def _documents(pdfs: Any, folder: Path, options: argparse.Namespace) -> Iterator[tuple[Path, list[Pair]]]:
    """Documents with their questions: invented facts first, then real reports, the folders in turns."""
    for seed in range(options.fact_documents):
        facts = pdfs.make_facts(options.per_document, 7000 + seed)
        path = folder / f"facts-{seed}.pdf"
        path.write_bytes(pdfs.write_pdf(pdfs.pages_of_facts(facts, seed=seed)))
        yield path, [Pair(fact.question, fact.sentence, number // 2 + 1) for number, fact in enumerate(facts)]
    data = SHARED / "data"
    sources = [sorted(data.glob("throughput/*.pdf")), sorted(data.glob("pdfqa/docs/sec10q_*.pdf")), sorted((ROOT / "samples").glob("*.pdf"))]
    for position in range(max(map(len, sources))):
        for source in sources:
            if position < len(source):
                yield source[position], _pairs(pdfs, source[position], options.per_document)


def _pairs(pdfs: Any, path: Path, count: int) -> list[Pair]:
    """Sentences that stand once in the document, asked for by their rarest words, which no other of its sentences has all of."""
    texts = [page.text.replace("\r", "").replace("\ufffe", "") for page in pdfs.read_pdf(str(path), boxes=False)]
    whole = pdfs.fold("".join(texts))
    seen = Counter(word for text in texts for word in set(_words(text)))
    found = []
    sentences = [(number, sentence) for number, text in enumerate(texts, 1) for sentence in _sentences(text)]
    spoken = [frozenset(_words(sentence)) for _, sentence in sentences]
    for number, sentence in sentences:
        words = sorted(dict.fromkeys(_words(sentence)), key=lambda word: (seen[word], word))[:RARE_WORDS]
        alone = sum(said.issuperset(words) for said in spoken) == 1 and whole.count(pdfs.fold(sentence)) == 1
        if number <= MOST_PAGES and alone and len(words) == RARE_WORDS:
            asked = " ".join(word for word in WORD.findall(sentence) if word.casefold() in words)
            found.append(Pair(f"What is said about {asked}?", sentence, number))
    random.Random(path.name).shuffle(found)
    return found[:count]


def _sentences(text: str) -> Iterator[str]:
    """Sentences of running text: no figures in a row, no titles in a row, no machine's names."""
    for match in SENTENCE.finditer(re.sub(r"[ \t]*\n(?=\S)", "\n", text)):
        sentence = " ".join(match.group().split())
        words = sentence.split()
        if not re.search(r"[$%_]|\d\s+\d", sentence) and sum(word[0].islower() for word in words) > 0.6 * len(words):
            yield sentence


def _words(text: str) -> list[str]:
    return [word.casefold() for word in WORD.findall(text) if len(word) > 3]


def _score(docray: Client, pdfs: Any, path: Path, pairs: Sequence[Pair]) -> Score:
    """Uploads the document, asks its questions within it, deletes it if this made it."""
    uploaded = docray.upload(path)
    document = docray.wait(uploaded["id"])
    score = Score()
    if document["state"] != "ready":
        raise SystemExit(f"{path.name} failed: {document['failure']}")
    try:
        pages = pdfs.read_pdf(str(path), max_pages=MOST_PAGES)
        for pair in pairs:
            answer = docray.ask(pair.question, document_ids=[document["id"]])
            _judge(docray, score, pdfs, pages, pair, answer, path.name)
    finally:
        if not uploaded.get("duplicate"):
            docray.delete(document["id"])
    return score


def _judge(docray: Client, score: Score, pdfs: Any, pages: Sequence[Any], pair: Pair, answer: Mapping[str, Any], name: str) -> None:
    score.asked += 1
    score.refused += answer["refused"]
    cited = answer["citations"]
    right = any(citation["page"] == pair.page for citation in cited)
    score.right_page += right
    if not right:
        places = ", ".join(f"page {citation['page']}: {citation['quote'][:80]}" for citation in cited) or "refused"
        score.misses.append(f"{name} page {pair.page}, {pair.sentence[:80]} → {places}")
    sentence = pdfs.fold(pair.sentence)
    score.right_sentence += any(_overlap(pdfs.fold(citation["quote"]), sentence) for citation in cited)
    for citation in cited:
        if citation["page"] > len(pages):
            continue  # a page that the judge did not read
        page = pages[citation["page"] - 1]
        score.citations += 1
        quote = pdfs.fold(citation["quote"])
        said = docray.call("GET", f"/v1/documents/{citation['document']['id']}/pages/{citation['page']}")["text"]
        score.verbatim += quote in pdfs.fold(said)
        score.same_order += quote in page.folded
        score.misses += [] if quote in page.folded else [f"{name} page {citation['page']}, other order of words: {citation['quote']}"]
        boxes = page.line_boxes(citation["quote"])
        score.ious.append(max((pdfs.iou(citation["bboxes"], place) for place in boxes), default=0.0))


def _overlap(quote: str, sentence: str) -> bool:
    return quote in sentence or sentence in quote


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def client_of(options: argparse.Namespace) -> Client:
    """A client of the docray that the options name."""
    if options.url:
        return Client(options.url, options.api_key)
    instance = json.loads((Path(options.data_dir) / "instance.json").read_text(encoding="utf-8"))
    return Client(instance["url"], instance["api_key"])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--api-key")
    parser.add_argument("--data-dir", default=".docray", help="the instance's folder, where no URL is given")
    parser.add_argument("--pairs", type=int, default=240)
    parser.add_argument("--per-document", type=int, default=12)
    parser.add_argument("--fact-documents", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
