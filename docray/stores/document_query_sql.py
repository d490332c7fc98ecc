"""The filters of the document list as a SQL expression over `p` (docray.documents).

Only the filters that were given stand in it: a statement that also holds the others as `$n IS NULL OR …` is planned once for all of
them, and then uses the index of none. Text that PostgreSQL cannot hold matches nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any

from docray.domain.catalog import DocumentQuery
from docray.stores.filter_sql import storable

_WORDS = "plainto_tsquery('pg_catalog.simple', regexp_replace({}::text, '[!-/:-@\\[-`{{-~]+', ' ', 'g'))"  # as docray.documents.words
_IN_COLLECTION = (
    "EXISTS (SELECT FROM docray.collection_documents m"
    " WHERE m.tenant_id = p.tenant_id AND m.document_id = p.id AND m.collection_id = {}::uuid)"
)


def compile_query(query: DocumentQuery, parameters: list[Any]) -> str:
    """A boolean expression; values are appended to `parameters` and named `$n` by their place there."""

    def value(given: Any) -> str:
        parameters.append(given)
        return f"${len(parameters)}"

    texts = [text for text in (query.filename, query.q, *query.metadata, *query.metadata.values()) if text is not None]
    if not all(storable(text) for text in texts):
        return "FALSE"
    return " AND ".join(["p.deleted_at IS NULL", *_conditions(query, value)])


def _conditions(query: DocumentQuery, value: Callable[[Any], str]) -> list[str]:
    given: Sequence[tuple[str, Any]] = (
        (_IN_COLLECTION, query.collection_id),
        ("p.state = {}::text", query.state and query.state.value),
        ("p.filename = {}::text", query.filename),
        (f"p.id IN (SELECT docray.documents_with_words({_WORDS}))", query.q),
        ("p.created_at >= {}::timestamptz", query.created_after),
        ("p.created_at < {}::timestamptz", query.created_before),
    )
    conditions = [sql.format(value(wanted)) for sql, wanted in given if wanted is not None]
    return conditions + [f"(p.metadata ->> {value(key)}::text) = {value(text)}::text" for key, text in query.metadata.items()]
