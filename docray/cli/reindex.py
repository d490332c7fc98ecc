"""`docray reindex …`: every document made anew for another model or cut, watched, switched, rolled back, finished."""

import time
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from docray.cli.common import ApiKey, AsJson, DataDir, ExitCode, Url, connect, err, fail, out, print_json
from docray.client import Client
from docray.domain.ids import parse_id

reindex = typer.Typer(help="Makes every document anew for another model or another cut, beside what answers.", no_args_is_help=True)

ReindexId = Annotated[str | None, typer.Argument(help="The reindex; the newest one where it is left out.")]

_POLL_S = 0.5
_KNOWN_S = 2.5  # what is younger may not be switched: not every process knows of it


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(reindex, name="reindex")


@reindex.command()
def start(
    collection: Annotated[str | None, typer.Option(help="Name or id: only its documents.")] = None,
    switch: Annotated[str, typer.Option(help="tenant: all at once, by `docray reindex switch`; document: each as soon as it is built.")] = "tenant",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until nothing is left to build.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Starts a reindex with the newest model that docray has loaded (DOCRAY_EMBEDDING_MODEL_NEXT) and its present cut."""
    if switch not in ("tenant", "document"):
        fail("--switch is tenant or document.", ExitCode.USAGE)
    with connect(url, api_key, data_dir) as client:
        collection_id = _collection(client, collection) if collection else None
        made = client.call("POST", "/v1/reindexes", json={"switch": switch, "collection_id": collection_id})
        if wait:
            made = _watch(client, made, as_json=as_json)
    _tell(made, as_json=as_json, event="done" if wait else None)
    if wait and made["documents"] and made["documents"]["failed"]:
        raise typer.Exit(int(ExitCode.PARTLY if made["documents"]["failed"] < made["documents"]["total"] else ExitCode.FAILED))


@reindex.command()
def status(reindex_id: ReindexId = None, url: Url = None, api_key: ApiKey = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """How far a reindex is."""
    with connect(url, api_key, data_dir) as client:
        found = client.call("GET", f"/v1/reindexes/{reindex_id or _newest(client)}")
    _tell(found, as_json=as_json)


@reindex.command()
def switch(
    reindex_id: ReindexId = None,
    accept_failures: Annotated[bool, typer.Option(help="Although some documents could not be built.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Lets all that is built answer, at once."""
    with connect(url, api_key, data_dir) as client:
        path = f"/v1/reindexes/{reindex_id or _newest(client)}/switch"
        _tell(client.call("POST", path, json={"accept_failures": accept_failures}), as_json=as_json)


@reindex.command()
def rollback(reindex_id: ReindexId = None, url: Url = None, api_key: ApiKey = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Lets what answered before answer again, at once, and removes what was built."""
    _change("rollback", reindex_id, (url, api_key, data_dir), as_json=as_json)


@reindex.command()
def finish(reindex_id: ReindexId = None, url: Url = None, api_key: ApiKey = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Removes what answered before the switch: from here there is no way back."""
    _change("finish", reindex_id, (url, api_key, data_dir), as_json=as_json)


@reindex.command()
def retry(reindex_id: ReindexId = None, url: Url = None, api_key: ApiKey = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Builds what could not be built once more."""
    _change("retry", reindex_id, (url, api_key, data_dir), as_json=as_json)


def _change(what: str, reindex_id: str | None, where: tuple[Any, ...], *, as_json: bool) -> None:
    with connect(*where) as client:
        _tell(client.call("POST", f"/v1/reindexes/{reindex_id or _newest(client)}/{what}"), as_json=as_json)


def _newest(client: Client) -> str:
    found = client.call("GET", "/v1/reindexes", params={"limit": 1})["data"]
    if not found:
        fail("There is no reindex. Start one with `docray reindex start`.", ExitCode.FAILED)
    return str(found[0]["id"])


def _collection(client: Client, name: str) -> str:
    """The id of a collection by id or name; unlike at ingesting, one that is absent is a mistake."""
    if parse_id(name):
        return name
    for collection in client.listing("/v1/collections"):
        if collection["name"] == name:
            return str(collection["id"])
    fail(f"There is no collection {name}.", ExitCode.FAILED)


def _watch(client: Client, made: dict[str, Any], *, as_json: bool) -> dict[str, Any]:
    """Follows a reindex until nothing waits, or somebody ended it."""
    started, last = time.monotonic(), None
    columns = TextColumn("pages"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=err, disable=as_json or not err.is_terminal) as progress:
        bar = progress.add_task("pages", total=None)
        while True:
            if as_json and made != last:
                print_json({"event": "progress", "reindex": made})
            last = made
            if made["pages"]:
                progress.update(bar, total=made["pages"]["total"], completed=made["pages"]["done"])
            if _is_built(made) and time.monotonic() - started > _KNOWN_S:
                return made
            time.sleep(_POLL_S)
            made = client.call("GET", f"/v1/reindexes/{made['id']}")


def _is_built(made: dict[str, Any]) -> bool:
    """One by documents is built when it has switched, or when only what failed keeps it from that."""
    counts = made["documents"]
    if made["state"] != "building" or counts is None:
        return True
    return not counts["waiting"] and (made["switch"] == "tenant" or bool(counts["failed"]))


def _tell(found: dict[str, Any], *, as_json: bool, event: str | None = None) -> None:
    if as_json:
        print_json({"event": event, "reindex": found} if event else found)
        return
    counts, pages = found["documents"], found["pages"]
    out.print(f"{found['id']}: {found['state'].replace('_', ' ')}, {found['model_before']} → {found['model']}", markup=False)
    if counts:
        parts = ", ".join(f"{counts[name]} {name}" for name in ("done", "built", "failed", "waiting"))
        out.print(f"  {counts['total']} documents: {parts}; {pages['done']} of {pages['total']} pages", markup=False)
    hint = _hint(found)
    if hint:
        err.print(hint, markup=False)


def _hint(found: dict[str, Any]) -> str | None:
    """What can be done next."""
    if found["state"] == "switched":
        return "Look at it; then `docray reindex finish`, or `docray reindex rollback` to go back."
    if found["state"] != "building" or not found["documents"] or found["documents"]["waiting"]:
        return None
    if found["documents"]["failed"]:
        return "Some documents could not be built: `docray reindex retry`, or `docray reindex switch --accept-failures`."
    return "All is built: `docray reindex switch`." if found["switch"] == "tenant" else None
