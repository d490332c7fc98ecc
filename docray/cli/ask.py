"""`docray search` and `docray ask`."""

import typer

from docray.cli.common import ApiKey, AsJson, DataDir, Url, connect, out, print_json

_QUOTE_LENGTH = 160


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(search)
    app.command()(ask)


def search(
    query: str,
    limit: int = typer.Option(10, min=1, max=100, help="How many passages."),
    mode: str = typer.Option("hybrid", help="hybrid, dense or keyword."),
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Finds passages."""
    with connect(url, api_key, data_dir) as client:
        found = client.search(query, limit=limit, mode=mode)
    if as_json:
        print_json(found)
        return
    for hit in found["results"]:
        pages = ", ".join(str(page["page"]) for page in hit["pages"])
        out.print(f"{hit['rank']}. {hit['document']['filename']}, page {pages}", style="bold", markup=False)
        out.print("   " + " ".join(hit["snippet"].split()), markup=False)
    if not found["results"]:
        out.print("Nothing found.")


def ask(
    question: str,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Answers a question, then lists its citations."""
    with connect(url, api_key, data_dir) as client:
        if as_json:
            print_json(client.ask(question))
            return
        final: dict[str, object] = {}
        for event, data in client.ask_stream(question):
            if event == "message":
                typer.echo(data["delta"], nl=False)
            elif event == "final_answer":
                final = data
    typer.echo("\n")
    for line in citation_lines(final):
        typer.echo(line)


def citation_lines(answer: dict[str, object]) -> list[str]:
    """`[1] report.pdf, page 7: "quote"`, each once."""
    lines = []
    for citation in answer.get("citations", ()):  # type: ignore[attr-defined]
        quote = " ".join(citation["quote"].split())
        shown = quote if len(quote) <= _QUOTE_LENGTH else quote[: _QUOTE_LENGTH - 1] + "…"
        lines.append(f'[{citation["index"]}] {citation["document"]["filename"]}, page {citation["page"]}: "{shown}"')
    return list(dict.fromkeys(lines))
