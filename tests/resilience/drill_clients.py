"""The clients of a drill on the product: threads that upload and delete, each request under a key until it is answered."""

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from uuid import UUID

from docray.client import ApiError, Client, ClientError
from tests.acceptance.conftest import Running
from tests.pdf_factory import scan
from tests.resilience.drill_plan import Outcome
from tests.resilience.story import a_pdf

BAD_PDFS = Path(__file__).resolve().parents[3] / "shared" / "data" / "badpdf"
PATIENCE_S = 600.0  # a bound for a busy machine; what it took is in the result
_TEMPORARY = (409, 429, 500, 502, 503, 504)


def documents_of(seed: int, count: int) -> Iterator[bytes]:
    """PDFs: most of them sound, some broken, some a second time, some from the collection of bad ones where that is there."""
    roll = random.Random(f"{seed}/documents")
    bad = sorted(path for path in BAD_PDFS.glob("*.pdf") if path.stat().st_size < 50_000) if BAD_PDFS.is_dir() else []
    made: list[bytes] = []
    for number in range(count):
        kind = roll.random()
        if kind < 0.08 and made:
            data = roll.choice(made)
        elif kind < 0.14:
            data = roll.choice((scan(number % 5 + 1), b"%%PDF-1.7\nnothing of document %d makes sense" % number))
        elif kind < 0.2 and bad:
            data = roll.choice(bad).read_bytes()
        else:
            data = a_pdf(f"{seed}-{number}", roll.randint(1, 12))
        made.append(data)
        yield data


class Clients:
    """Threads that upload what is in a queue and delete some of it, each request under a key until it is answered."""

    def __init__(self, running: Running, outcome: Outcome) -> None:
        self._running = running
        self._outcome = outcome
        self._queue: Queue[tuple[int, bytes] | None] = Queue()
        self._lock = threading.Lock()
        self._waiting = enumerate(documents_of(outcome.plan.seed, outcome.plan.documents))
        self._batch = -(-outcome.plan.documents // max(1, len(outcome.plan.targets)))
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(outcome.plan.clients)]
        for thread in self._threads:
            thread.start()

    def more(self) -> None:
        """The next of as many batches as there are kills, so that each of them meets work on its way."""
        for numbered in itertools.islice(self._waiting, self._batch):
            self._queue.put(numbered)

    def end(self) -> None:
        """Returns when everything is sent."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _run(self, number: int) -> None:
        roll = random.Random(f"{self._outcome.plan.seed}/client {number}")
        with Client(self._running.url, self._running.api_key, timeout_s=20) as client:
            while True:
                numbered = self._queue.get()
                if numbered is None:
                    return
                n, data = numbered
                time.sleep(roll.uniform(0, 5))  # so that some of a batch is sent before the kill, some after, some into it
                key = f"drill {n}"
                made = self._until_answered(roll, lambda data=data, key=key: self._upload(client, data, key))
                if made is None:
                    continue
                document_id = UUID(made["id"])
                with self._lock:
                    self._outcome.acknowledged.add(document_id)
                time.sleep(roll.uniform(0, 3))
                if roll.random() < self._outcome.plan.deleted and not made.get("duplicate"):
                    key = f"delete {n}"
                    gone = self._until_answered(
                        roll, lambda at=document_id, key=key: client.call("DELETE", f"/v1/documents/{at}", idempotency_key=key), absent_is_done=True
                    )
                    if gone is not None:
                        with self._lock:
                            self._outcome.deleted.add(document_id)

    def _upload(self, client: Client, data: bytes, key: str) -> dict[str, object]:
        return dict(client.call("POST", "/v1/documents", content=data, headers={"Content-Type": "application/pdf"}, idempotency_key=key))

    def _until_answered(self, roll: random.Random, send: Callable[[], dict[str, str]], *, absent_is_done: bool = False) -> dict[str, str] | None:
        """The answer; None, and a note of it, where no retry helped. Another client may have deleted what has the same bytes."""
        stop = time.monotonic() + PATIENCE_S
        problem: ClientError | None = None
        while time.monotonic() < stop:
            with self._lock:
                self._outcome.requests += 1
            try:
                return send()
            except ApiError as error:
                if error.status == 404 and absent_is_done:
                    return {}
                if error.status in (413, 415) or error.status not in _TEMPORARY:
                    if error.status != 415:  # a file that is no PDF is refused, and rightly
                        with self._lock:
                            self._outcome.refused.append(str(error))
                    return None
                problem = error
            except ClientError as error:
                problem = error
            with self._lock:
                self._outcome.repeated += 1
            time.sleep(roll.uniform(0.2, 1.0))
        with self._lock:
            self._outcome.refused.append(str(problem))
        return None
