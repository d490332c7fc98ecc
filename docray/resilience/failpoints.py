"""Named points of a document's way at which a test may kill, stop or break the process: before an effect, after it, after its record.

Owns the list of points. Nothing arms them but `arm`, called by a test's own process with an object of its own: no setting and no variable of
the environment does, so nothing that an operator or an attacker writes can. Not armed, a point costs the look at one variable.
"""

from collections.abc import Awaitable, Callable

Hook = Callable[[str], Awaitable[None]]

POINTS = {
    # The API's process. `before_record`: the effect is there, the row that names it is not, or is not committed.
    "upload.before_effect": "the bytes are staged",
    "upload.before_record": "the blob is durable, no row names it",
    "upload.before_commit": "the rows are written, not committed",
    "upload.after_record": "the document is committed, nobody knows",
    "replace.before_effect": "the next generation's rows are written, neither committed nor is there a blob",
    "replace.before_record": "the next generation's blob is durable, its rows are not committed",
    "replace.after_record": "the next generation is committed, nobody knows",
    "delete.before_record": "the document is marked, not committed",
    "delete.after_record": "the document is gone, nobody knows",
    # The worker's process.
    "lease.before_effect": "about to ask for a job",
    "lease.after_record": "holds a job, has done nothing",
    "extract.before_effect": "about to have the PDF read",
    "extract.before_record": "pages and chunks are in memory",
    "parsed.before_record": "pages and chunks are written, not committed",
    "parsed.after_record": "PARSED is committed",
    "embed.before_effect": "about to compute vectors",
    "embed.before_record": "vectors are in memory",
    "embed.after_record": "EMBEDDED is committed, the vectors are still in memory only",
    "index.before_record": "the index is written, the state does not say so",
    "index.after_record": "INDEXED is committed",
    "publish.before_record": "the compare-and-set is done, not committed",
    "publish.after_record": "the generation answers, its worker has not noticed",
    "fail.before_record": "FAILED is written, not committed",
    "fail.after_record": "FAILED is committed",
    "purge.before_effect": "holds an order, has removed nothing",
    "purge.after_blobs": "blobs are removed, the index is not",
    "purge.before_record": "the index is removed, rows and order are still there",
    "purge.before_commit": "rows and order are removed, not committed",
    "purge.after_record": "the purge is committed",
}
"""Name → what has happened when it is reached."""

_hook: Hook | None = None


async def reached(point: str) -> None:
    """Says that a point is reached. Does nothing unless a test has armed the points."""
    if _hook is not None:
        await _hook(point)


def arm(hook: Hook | None) -> None:
    """Has `hook` called at every point of this process from now on; None disarms."""
    global _hook
    _hook = hook
