"""The statements of the stores, in `.sql` files of named queries: `-- name: NAME`, a sentence on the next line, the statement.

Every statement that touches rows of tenants names the tenant itself, by a parameter or by `{tenant}`: the transaction's. Row-level security
says the same again, so that each keeps tenants apart where the other is missing.
"""

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

_TENANT = "NULLIF(current_setting('app.tenant_id', true), '')::uuid"  # as in the policies: planned as one condition, not as two
_HEAD = re.compile(r"^-- name: (\w+)\n-- \S", re.MULTILINE)


def load(name: str) -> Mapping[str, str]:
    """The queries of `NAME.sql` by their names. ValueError where one has no sentence or a name stands twice."""
    text = (files(__package__) / f"{name}.sql").read_text(encoding="utf-8").replace("{tenant}", _TENANT)
    heads = list(_HEAD.finditer(text))
    if len(heads) != text.count("-- name:"):
        raise ValueError(f"{name}.sql: a query lacks the sentence that says what it does")
    ends = [head.start() for head in heads[1:]] + [len(text)]
    queries = {head[1]: text[head.start() : end].strip() for head, end in zip(heads, ends, strict=True)}
    if len(queries) != len(heads):
        raise ValueError(f"{name}.sql: a name stands twice")
    return MappingProxyType(queries)
