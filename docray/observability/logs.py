"""Log lines: one JSON object each, on stderr, with a sentence (`event`), an `action`, ids, and the request's id.

What is said in documents, questions and answers, and what is secret, never gets through: fields of such names and strings that look
like a key or carry a password are replaced, and an exception shows its kind and where it came from, not its message (which may quote
what it was working on). At level DEBUG messages are shown; that level is for a developer's own data.
"""

import logging
import re
import sys
import traceback
from typing import Any, BinaryIO

import orjson
import structlog
from structlog.typing import EventDict, WrappedLogger

_PRIVATE = frozenset({
    "answer", "api_key", "authorization", "body", "content", "cookie", "database_dsn", "dsn", "filename", "highlight", "metadata", "password",
    "prompt", "q", "query", "question", "quote", "secret", "text", "title", "token",
})  # fmt: skip
_REPLACED = "[redacted]"
_KEYS = re.compile(r"\bdr_[0-9A-Za-z_]{8,}|\bsk-[0-9A-Za-z_-]{8,}|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)|(?i:bearer)\s+\S+")
_SIGNS = ("dr_", "sk-", "://", "earer ", "EARER ")  # what those begin with: a search for them costs less than the expression
_FRAMES = 12


def configure(level: str = "INFO", stream: BinaryIO | None = None) -> None:
    """Sets up structlog for this process. `level` is a name of the standard library's; `stream` is stderr unless given."""
    debugging = level == "DEBUG"
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _with_messages if debugging else _without_messages,
            redact,
            structlog.processors.JSONRenderer(serializer=lambda line, **_: orjson.dumps(line, default=str)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.BytesLoggerFactory(stream or sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )


def redact(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Replaces private fields, and what looks like a secret within any other string."""
    for name, value in line.items():
        if name in _PRIVATE:
            line[name] = _REPLACED
        elif isinstance(value, str) and any(sign in value for sign in _SIGNS):
            line[name] = _KEYS.sub(_REPLACED, value)
    return line


def _without_messages(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    return _explain(line, messages=False)


def _with_messages(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    return _explain(line, messages=True)


def _explain(line: EventDict, *, messages: bool) -> EventDict:
    """`exc_info` becomes `exception`: the chain of kinds, each with its last frames."""
    given = line.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
    chain: list[dict[str, Any]] = []
    while error is not None and len(chain) < 5:
        frames = [f"{frame.name}:{frame.lineno} {_module(frame.filename)}" for frame in traceback.extract_tb(error.__traceback__)[-_FRAMES:]]
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        chain.append({"kind": kind, "frames": frames, **({"message": str(error)} if messages else {})})
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return {**line, "exception": chain} if chain else line


def _module(filename: str) -> str:
    """The end of a path: enough to find the file, nothing about the machine."""
    return "/".join(filename.replace("\\", "/").rsplit("/", 3)[-3:])
