"""`docray ingest`: sends PDFs, several at a time, and follows them until they are ready."""

import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from docray.cli.bulk import ingest_in_bulk
from docray.cli.common import ApiKey, AsJson, DataDir, ExitCode, Url, connect, err, fail, print_json
from docray.client import ApiError, Client, NotReachable
from docray.domain.ids import new_id, parse_id

_UPLOADS_AT_ONCE = 4


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(ingest)


def ingest(
    paths: Annotated[list[str], typer.Argument(help="PDF files, or folders of them; with --bulk one folder, LIST.jsonl or s3://…")],
    collection: Annotated[str | None, typer.Option(help="Name or id; a name that is not there is made.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until every document is ready or failed.")] = True,
    bulk: Annotated[bool, typer.Option("--bulk", help="By a bulk run of Ray Data that reads the source itself, for many PDFs.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Uploads PDFs and, unless told otherwise, waits until they can be asked about."""
    if bulk:
        if len(paths) != 1:
            fail("A bulk run has one source: a folder, LIST.jsonl or s3://…", ExitCode.USAGE)
        with connect(url, api_key, data_dir) as client:
            ingest_in_bulk(client, paths[0], collection, data_dir=data_dir, wait=wait, as_json=as_json)
        return
    files = pdfs_in([Path(path) for path in paths])
    with connect(url, api_key, data_dir) as client:
        collection_id = find_collection(client, collection) if collection else None
        run = _Run(client, collection_id, wait=wait, as_json=as_json)
        run.all(files)
    run.close()


def pdfs_in(paths: list[Path]) -> list[Path]:
    """The files named and the PDFs below the folders named; exit 2 before anything is sent when a path does not exist."""
    absent = [str(path) for path in paths if not path.exists()]
    if absent:
        fail(f"No such file or folder: {', '.join(absent)}", ExitCode.USAGE)
    found: list[Path] = []
    for path in paths:
        found += sorted(each for each in path.rglob("*") if each.suffix.lower() == ".pdf" and each.is_file()) if path.is_dir() else [path]
    if not found:
        fail("There is no PDF in " + ", ".join(map(str, paths)), ExitCode.USAGE)
    return list(dict.fromkeys(found))


def find_collection(client: Client, name: str) -> str:
    """The id of a collection by id or name, made when the name is new."""
    if parse_id(name):
        return str(client.call("GET", f"/v1/collections/{name}")["id"])
    for collection in client.listing("/v1/collections"):
        if collection["name"] == name:
            return str(collection["id"])
    try:
        return str(client.call("POST", "/v1/collections", json={"name": name})["id"])
    except ApiError as error:
        if error.code != "duplicate_name":
            raise
        return find_collection(client, name)  # somebody made it between the look and the making


class _Run:
    """One `docray ingest`: uploads in threads, tells progress as bars or JSON lines, counts what became of each."""

    def __init__(self, client: Client, collection_id: str | None, *, wait: bool, as_json: bool) -> None:
        self._client = client
        self._collection_ids = [collection_id] if collection_id else []
        self._wait = wait
        self._as_json = as_json
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._documents: list[dict[str, Any]] = []
        self._errors: list[dict[str, str]] = []
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn(),
            console=err, disable=as_json or not err.is_terminal, transient=False,
        )  # fmt: skip

    def all(self, files: list[Path]) -> None:
        """Every file; Ctrl-C stops sending, and what was accepted goes on without us."""
        with self._progress, ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
            total = self._progress.add_task("all", total=len(files), state="")
            waiting: set[Future[None]] = {pool.submit(self._one, file) for file in files}
            try:
                while waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
                        self._progress.advance(total)
            except BaseException:
                self._stopping.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _one(self, file: Path) -> None:
        bar = self._progress.add_task(file.name, total=None, state="sending")
        try:
            document = self._client.upload(file, collection_ids=self._collection_ids, idempotency_key=str(new_id()))
            self._tell(bar, document)
            if self._wait:
                document = self._client.wait(document["id"], on_change=lambda changed: self._tell(bar, changed))
            with self._lock:
                self._documents.append(document)
        except NotReachable:
            raise
        except (ApiError, OSError) as error:
            if isinstance(error, ApiError) and error.status in (401, 403):
                raise
            err.print(f"{file}: {error}", style="red", markup=False)
            with self._lock:
                self._errors.append({"path": str(file), "message": str(error)})
        finally:
            self._progress.update(bar, visible=False)

    def _tell(self, bar: TaskID, document: dict[str, Any]) -> None:
        if self._stopping.is_set():
            raise typer.Abort
        progress = document["progress"]
        self._progress.update(bar, total=progress["pages_total"], completed=progress["pages_done"], state=document["state"])
        if self._as_json:
            with self._lock:
                print_json({"event": "progress", "document": document})

    def close(self) -> None:
        """The last line and the exit code."""
        ready = [each for each in self._documents if each["state"] == "ready"]
        failed = [each for each in self._documents if each["state"] == "failed"]
        bad = len(failed) + len(self._errors)
        if self._as_json:
            print_json({"event": "done", "ready": len(ready), "failed": bad, "documents": self._documents, "errors": self._errors})
        else:
            for document in failed:
                err.print(f"{document['filename']}: {document['failure']['message']}", style="red", markup=False)
            err.print(f"{len(ready)} ready, {bad} failed" if self._wait else f"{len(self._documents)} accepted, {bad} refused")
        if bad:
            raise typer.Exit(int(ExitCode.PARTLY if self._documents and len(failed) < len(self._documents) else ExitCode.FAILED))
