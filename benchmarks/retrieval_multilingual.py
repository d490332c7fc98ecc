"""XQuAD in seven languages, a PDF each: `python -m benchmarks.retrieval_multilingual` (a docray is up).

612 questions a language; which of the 120 pages, a paragraph each, answers? Beside it, on the plain texts, BM25 (k1 1.2, b .75) over
character n-grams of words: 4-grams, and 2-grams where a script has no spaces.
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from benchmarks.instance import SHARED
from benchmarks.retrieval_run import MODES, own_tenant, read_lines, report, score, search_all, upload

FOLDER = SHARED / "multilingual"
LANGUAGES = ("en", "de", "es", "ru", "tr", "ar", "zh")
GRAMS = defaultdict(lambda: 4, zh=2)
K1, B = 1.2, 0.75


def grams_of(text: str, size: int) -> list[str]:
    """The n-grams of a text's words, their ends marked by spaces."""
    words = [f" {word} " for word in re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())]
    return [word[at : at + size] for word in words for at in range(max(1, len(word) - size + 1))]


def baseline(corpus: Sequence[dict[str, Any]], queries: Sequence[tuple[str, str]], size: int) -> list[tuple[str, list[dict[str, Any]]]]:
    """BM25 over n-grams: the first hundred of each query."""
    counts = [Counter(grams_of(entry["text"], size)) for entry in corpus]
    lengths = [sum(count.values()) for count in counts]
    mean = sum(lengths) / len(lengths)
    among = Counter(gram for count in counts for gram in count)
    worth = {gram: math.log1p((len(corpus) - number + 0.5) / (number + 0.5)) for gram, number in among.items()}
    run = []
    for query_id, query in queries:
        scores = []
        asked = Counter(gram for gram in grams_of(query, size) if gram in worth)
        for count, length in zip(counts, lengths, strict=True):
            norm = K1 * (1 - B + B * length / mean)
            scores.append(sum(times * worth[gram] * count[gram] * (K1 + 1) / (count[gram] + norm) for gram, times in asked.items() if gram in count))
        best = sorted(range(len(corpus)), key=lambda place: -scores[place])[:100]
        run.append((query_id, [{"doc": corpus[place]["_id"]} for place in best if scores[place] > 0]))
    return run


def main() -> None:
    """Prints JSON lines: for each language the baseline and each mode."""
    with own_tenant("multilingual") as client:
        ids = upload(client, ((path.name, path.read_bytes) for path in sorted((FOLDER / "docs").glob("*.pdf"))))
        for language in LANGUAGES:
            folder = FOLDER / "text" / language
            queries = [(query["_id"], query["text"]) for query in read_lines(folder / "queries.jsonl")]
            judged = ("--qrels", str(folder / "qrels.tsv"))
            run = baseline(read_lines(folder / "corpus.jsonl"), queries, GRAMS[language])
            report("retrieval_multilingual", score(run, *judged), language=language, mode=f"BM25 over {GRAMS[language]}-grams")
            for mode in MODES:
                found = search_all(client, queries, mode=mode, limit=40, document_ids=[ids[f"xquad_{language}.pdf"]])
                run = [(query_id, [{"doc": f"{language}-p{page['page']}"} for hit in hits for page in hit["pages"]]) for query_id, hits in found]
                report("retrieval_multilingual", score(run, *judged), language=language, mode=mode)


if __name__ == "__main__":
    main()
