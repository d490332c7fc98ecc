"""Driver errors become docray's, here and nowhere else. What the driver said stays in `__cause__` and never reaches a caller."""

import contextlib
import re
from collections.abc import Iterator

import asyncpg

from docray.domain.errors import DocrayError, DuplicateName, InvalidField, NotFound, Unavailable

_AWAY = (
    ConnectionError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shut down, starting up, crashed, statement timeout
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.LockNotAvailableError,
    asyncpg.TransactionRollbackError,  # deadlock
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InternalClientError,  # the driver's state when the server goes away between two messages
)
_UNSTORABLE = (
    asyncpg.CharacterNotInRepertoireError,  # NUL in text
    asyncpg.UntranslatableCharacterError,  # \u0000 in JSON
    asyncpg.InvalidTextRepresentationError,  # half a surrogate pair in JSON
)
_CLOSED = re.compile(r"\b(closed|closing|released back)\b")  # a connection or pool that is gone; other InterfaceErrors are mistakes of ours
_NAMES = frozenset({"collections_name", "tenants_name"})
RETRY_AFTER_S = 1.0


def translated(error: Exception) -> DocrayError | None:
    """The error of docray's tree that a driver's error means, or None for one that is not the driver's."""
    if isinstance(error, asyncpg.UniqueViolationError) and error.constraint_name in _NAMES:
        return DuplicateName()
    if isinstance(error, asyncpg.ForeignKeyViolationError):
        return NotFound()
    if isinstance(error, _UNSTORABLE) or isinstance(error.__cause__, UnicodeEncodeError):
        return InvalidField("The text has characters that cannot be stored: NUL or half of a surrogate pair. Remove them.")
    if isinstance(error, _AWAY) or (isinstance(error, asyncpg.InterfaceError) and _CLOSED.search(str(error))):
        return Unavailable(retry_after_s=RETRY_AFTER_S)
    if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):
        return DocrayError()
    return None


@contextlib.contextmanager
def translating() -> Iterator[None]:
    """Raises docray's errors instead of the driver's."""
    try:
        yield
    except DocrayError:
        raise
    except Exception as error:
        meaning = translated(error)
        if meaning is None:
            raise
        raise meaning from error


@contextlib.contextmanager
def connecting() -> Iterator[None]:
    """Translates what goes wrong before there is a connection; a socket that is not there is no FileNotFoundError to a caller."""
    try:
        with translating():
            yield
    except OSError as error:
        raise Unavailable(retry_after_s=RETRY_AFTER_S) from error
