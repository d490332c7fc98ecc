"""Does docray answer what the documents say, and refuse what they do not? Asked over HTTP of a running docray.

    python -m benchmarks.refusal --url URL --api-key KEY [--questions 25] [--languages en,de,zh]
    python -m benchmarks.refusal --data-dir .docray

Needs the development data beside the checkout (`../shared/data/multilingual`: XQuAD, a paragraph a page). Every question is asked twice
of its document: of all pages, and of all but those around its own (its article), where the right answer is a refusal. One JSON line per
language, the last one is the sum:

`answered`   share of answerable questions that were answered
`right`      share of answerable questions whose answer holds the expected words
`refused`    share of the others that were refused
"""

import argparse
import json
import random
import unicodedata
from pathlib import Path
from typing import Any

from benchmarks.citations import client_of
from docray.client import Client

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "multilingual"
ARTICLE_PAGES = 4  # on either side of a question's page: XQuAD has five paragraphs of an article


def main() -> None:
    """Asks and prints."""
    options = _options()
    questions = [json.loads(line) for line in (DATA / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    total: list[tuple[bool, bool, bool]] = []
    with client_of(options) as docray:
        for language in options.languages.split(","):
            mine = [question for question in questions if question["type"] == language]
            random.Random(language).shuffle(mine)
            uploaded = docray.upload(DATA / "docs" / f"xquad_{language}.pdf")
            document = docray.wait(uploaded["id"])
            found = [_asked(docray, document["id"], question) for question in mine[: options.questions]]
            if not uploaded.get("duplicate"):
                docray.delete(document["id"])
            total += found
            print(_line(language, found), flush=True)
    print(_line("all", total))


def _asked(docray: Client, document_id: str, question: dict[str, Any]) -> tuple[bool, bool, bool]:
    """(answered, right, refused without its article)."""
    page = question["pages"][0]
    elsewhere = {"or": [{"page": {"lt": page - ARTICLE_PAGES}}, {"page": {"gt": page + ARTICLE_PAGES}}]}
    answer = docray.ask(question["question"], document_ids=[document_id])
    without = docray.ask(question["question"], document_ids=[document_id], filter=elsewhere)
    right = not answer["refused"] and _plain(question["answer"]) in _plain(answer["answer"])
    return not answer["refused"], right, without["refused"]


def _plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _line(name: str, found: list[tuple[bool, bool, bool]]) -> str:
    answered, right, refused = (round(sum(column) / max(1, len(found)), 3) for column in zip(*found, strict=True))
    return json.dumps({"language": name, "questions": len(found), "answered": answered, "right": right, "refused": refused})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--api-key")
    parser.add_argument("--data-dir", default=".docray", help="the instance's folder, where no URL is given")
    parser.add_argument("--questions", type=int, default=25, help="a language")
    parser.add_argument("--languages", default="en,de,es,ru,zh,ar,tr")
    return parser.parse_args()


if __name__ == "__main__":
    main()
