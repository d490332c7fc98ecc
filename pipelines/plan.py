"""What every process of a run needs to know, and the services it opens once for it.

A plan is small and travels with each task. Settings are read where the task runs: secrets and addresses come from that machine's
environment, never through Ray.
"""

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

from docray.domain.bulk import Driver
from docray.domain.errors import DocrayError
from docray.domain.principals import Principal, Scope

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run: whose it is, who drives it, where its documents go."""

    tenant_id: UUID
    tenant_name: str
    driver: Driver
    collection_id: UUID | None = None

    @property
    def principal(self) -> Principal:
        """The run acting for its tenant, as the audit log names it."""
        return worker_principal(self.tenant_id, self.tenant_name, self.driver.run_id)

    @property
    def collection_ids(self) -> tuple[UUID, ...]:
        """The collection that every document joins, or none."""
        return (self.collection_id,) if self.collection_id else ()


def worker_principal(tenant_id: UUID, tenant_name: str, run_id: UUID) -> Principal:
    """A process of docray's own."""
    return Principal(
        kind="worker", id=run_id, name="bulk", tenant_id=tenant_id, tenant_name=tenant_name, scopes=frozenset({Scope.INGEST})
    )


class Opened(Generic[T]):
    """A service in an event loop on a thread of its own, for the synchronous operators of Ray Data."""

    def __init__(self, opens: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="services", daemon=True)
        self._thread.start()
        self._stack = contextlib.AsyncExitStack()
        try:
            self.service: T = self.run(self._stack.enter_async_context(opens()))
        except BaseException:
            self.close()
            raise

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Waits for a coroutine in the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """Closes the service and ends its thread."""
        try:
            self.run(self._stack.aclose())
            self.run(self._loop.shutdown_default_executor())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


@contextlib.contextmanager
def crossing_ray() -> Iterator[None]:
    """Lets errors of ours leave an operator without their causes: a driver's own exceptions do not survive pickling."""
    try:
        yield
    except DocrayError as error:
        raise error.with_traceback(None) from None


@functools.cache
def opened_once(opens: Callable[[], AbstractAsyncContextManager[T]]) -> Opened[T]:
    """The service of this process: Ray uses a process for many tasks, and connecting anew for each would cost more than the task."""
    return Opened(opens)
