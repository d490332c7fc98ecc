"""A client of docray's HTTP API for Python programs, and the one the command line uses. Synchronous; answers are plain dicts.

    from docray.client import Client

    with Client("http://127.0.0.1:8000", "dr_…") as docray:
        document = docray.wait(docray.upload("report.pdf")["id"])
        print(docray.ask("What was the revenue in 2023?")["answer"])

Errors are `ApiError` (the API's own error object), `NotReachable`, or `WrongAnswer` for what is no docray. Leaves retries of writes
to the caller: pass `idempotency_key` and send the same call again.
"""

import json
import mimetypes
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import httpx

FINAL_STATES = ("ready", "failed")


class ClientError(Exception):
    """Something kept the call from succeeding."""


class NotReachable(ClientError):
    """Nothing answers at that address."""


class WrongAnswer(ClientError):
    """Something answers at that address, but it is not docray."""


class ApiError(ClientError):
    """docray refused the call. `error` is its error object."""

    def __init__(self, status: int, error: Mapping[str, Any]) -> None:
        super().__init__(status, dict(error))
        self.status = status
        self.error = dict(error)

    @property
    def code(self) -> str:
        """The stable code, such as `not_found`."""
        return str(self.error.get("code", "internal"))

    def __str__(self) -> str:
        param = self.error.get("param")
        return f"{self.error.get('message', 'refused')}" + (f" ({param})" if param else "")


class Client:
    """One docray, one key."""

    def __init__(self, url: str, api_key: str, *, timeout_s: float = 120.0) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {api_key}"}, timeout=httpx.Timeout(timeout_s, connect=10.0))

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    # --- calls ---------------------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, *, idempotency_key: str | None = None, **options: Any) -> Any:
        """One request → its JSON (None without a body)."""
        headers = {**options.pop("headers", {}), **({"Idempotency-Key": idempotency_key} if idempotency_key else {})}
        try:
            response = self._http.request(method, path, headers=headers, **options)
        except httpx.TransportError as error:
            raise NotReachable(f"{self.url} does not answer ({type(error).__name__})") from error
        return _body(response)

    def upload(
        self,
        file: str | Path | BinaryIO,
        *,
        filename: str | None = None,
        collection_ids: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        title: str | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Sends a PDF → the document, on its way to `ready`."""
        if isinstance(file, (str, Path)):
            with Path(file).open("rb") as opened:
                return self.upload(
                    opened, filename=filename or Path(file).name, collection_ids=collection_ids, metadata=metadata, title=title,
                    idempotency_key=idempotency_key,
                )  # fmt: skip
        form: dict[str, Any] = {"collection_id": list(collection_ids)}
        if metadata is not None:
            form["metadata"] = json.dumps(metadata)
        if title is not None:
            form["title"] = title
        kind = mimetypes.types_map.get(".pdf", "application/pdf")
        found: dict[str, Any] = self.call(
            "POST", "/v1/documents", data=form, files={"file": (filename or "document.pdf", file, kind)}, idempotency_key=idempotency_key
        )
        return found

    def document(self, document_id: str) -> dict[str, Any]:
        """The document as it is now."""
        found: dict[str, Any] = self.call("GET", f"/v1/documents/{document_id}")
        return found

    def wait(self, document_id: str, *, timeout_s: float | None = None, on_change: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
        """Polls until the document is `ready` or `failed`; tells each change. TimeoutError after the time."""
        stop = time.monotonic() + timeout_s if timeout_s is not None else None
        last: dict[str, Any] | None = None
        while True:
            document = self.document(document_id)
            if document != last and on_change:
                on_change(document)
            if document["state"] in FINAL_STATES:
                return document
            if stop is not None and time.monotonic() > stop:
                raise TimeoutError(f"{document['filename']} is still {document['state']} after {timeout_s:g} s")
            last = document
            time.sleep(0.2)

    def delete(self, document_id: str) -> dict[str, Any]:
        """Deletes a document: from here nothing shows it."""
        found: dict[str, Any] = self.call("DELETE", f"/v1/documents/{document_id}")
        return found

    def search(self, query: str, **fields: Any) -> dict[str, Any]:
        """Searches; fields as in `POST /v1/search`."""
        found: dict[str, Any] = self.call("POST", "/v1/search", json={"query": query, **fields})
        return found

    def ask(self, question: str, **fields: Any) -> dict[str, Any]:
        """Asks; fields as in `POST /v1/ask`."""
        found: dict[str, Any] = self.call("POST", "/v1/ask", json={"question": question, **fields})
        return found

    def ask_stream(self, question: str, **fields: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        """Asks → (event, data) as they come: `search_results`, `message`, `citation`, `final_answer`. ApiError for `error`."""
        try:
            with self._http.stream("POST", "/v1/ask", json={"question": question, "stream": True, **fields}) as response:
                if response.status_code >= 400:
                    response.read()
                    _body(response)
                for event, data in _events(response.iter_lines()):
                    if event == "error":
                        raise ApiError(response.status_code, data.get("error", data))
                    yield event, data
        except httpx.TransportError as error:
            raise NotReachable(f"{self.url} does not answer ({type(error).__name__})") from error

    def listing(self, path: str, **filters: Any) -> Iterator[dict[str, Any]]:
        """Every row of a list, page by page."""
        after: str | None = None
        while True:
            page = self.call("GET", path, params={**filters, "limit": 200, **({"after": after} if after else {})})
            yield from page["data"]
            after = page["next_cursor"]
            if not after:
                return


def _body(response: httpx.Response) -> Any:
    """The JSON of an answer, ApiError for a refusal."""
    if response.status_code == 204 or (response.status_code < 400 and not response.content):
        return None
    try:
        body = response.json()
    except ValueError:
        raise WrongAnswer(f"{response.url} answered {response.status_code} without JSON: is it docray?") from None
    if response.status_code >= 400:
        if not isinstance(body, dict) or not isinstance(body.get("error"), dict):
            raise WrongAnswer(f"{response.url} answered {response.status_code}, not in docray's form: is it docray?")
        raise ApiError(response.status_code, body["error"])
    return body


def _events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Server-sent events with JSON data."""
    name = "message"
    data: list[str] = []
    for line in lines:
        if not line:
            if data:
                yield name, json.loads("\n".join(data))
            name, data = "message", []
        elif line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
