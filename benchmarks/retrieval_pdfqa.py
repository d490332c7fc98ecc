"""Questions over 29 filings and annual reports: `python -m benchmarks.retrieval_pdfqa` (a docray is up).

Which of the 2,040 pages do the first hits stand on? page_hit@5 and @10 of reciprocal rank fusion of BM25 and all-MiniLM-L6-v2 over
1,000-character chunks: .307 and .467.
"""

from benchmarks.instance import SHARED, figure
from benchmarks.retrieval_run import MODES, own_tenant, read_lines, report, score, search_all, upload

FOLDER = SHARED / "pdfqa"


def main() -> None:
    """Prints a JSON line for each mode."""
    questions = read_lines(FOLDER / "questions.jsonl")
    scored = [(question["id"], question["question"]) for question in questions if question.get("doc") and question.get("answerable") is not False]
    with own_tenant("pdfqa") as client:
        ids = upload(client, ((path.name, path.read_bytes) for path in sorted((FOLDER / "docs").glob("*.pdf"))))
        figure(benchmark="retrieval_pdfqa", documents=len(ids), questions=len(scored))
        for mode in MODES:
            run = []
            for question_id, hits in search_all(client, scored, mode=mode, limit=40):
                pages = [{"doc": hit["document"]["filename"], "page": page["page"]} for hit in hits for page in hit["pages"]]
                run.append((question_id, pages))
            report("retrieval_pdfqa", score(run, "--questions", str(FOLDER / "questions.jsonl")), mode=mode)


if __name__ == "__main__":
    main()
