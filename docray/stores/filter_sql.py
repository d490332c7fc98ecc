"""A search scope as a SQL expression: which documents `d` and chunks `c` are in it.

Every condition is true or false, never NULL, so that NOT means not; values are parameters, never text. `ne` and `nin` negate `eq` and
`in`, and so hold where the field is missing. Types do not mix: a number never equals, precedes or follows a text, and nothing raises.
Leaves parsing and checking filters to `docray.answering.filters`.
"""

import json
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from docray.domain.questions import AllOf, AnyOf, Condition, Filter, Not, Operator, Scope

_ORDER = {Operator.GT: ">", Operator.GTE: ">=", Operator.LT: "<", Operator.LTE: "<="}
_POSITIVE = {Operator.NE: Operator.EQ, Operator.NIN: Operator.IN}
_TEXTS = {"filename": "d.filename", "title": "d.title"}


def compile_filter(scope: Scope, parameters: list[Any]) -> str:
    """A boolean expression over the aliases `d` (docray.documents) and `c` (docray.chunks); TRUE for an unrestricted scope.

    Values are appended to `parameters`; the expression names them `$n` by their place in it. `c` occurs only if `needs_chunks`.
    """
    return _Compiler(parameters, scope).scope()


def needs_chunks(condition: Filter | None) -> bool:
    """Whether the filter speaks of passages (`page`), not only of documents."""
    match condition:
        case AllOf(parts) | AnyOf(parts):
            return any(needs_chunks(part) for part in parts)
        case Not(part):
            return needs_chunks(part)
        case Condition(field):
            return field == "page"
    return False


def storable(value: Any) -> bool:
    """Whether PostgreSQL could hold the scalar at all; what it could not hold equals nothing that it holds."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
    return True


class _Compiler:
    """Compiles one scope."""

    def __init__(self, parameters: list[Any], scope: Scope) -> None:
        self._parameters = parameters
        self._scope = scope

    def _value(self, value: Any, kind: str) -> str:
        self._parameters.append(value)
        return f"${len(self._parameters)}::{kind}"

    def scope(self) -> str:
        parts = []
        if self._scope.document_ids is not None:
            parts.append(f"d.id = ANY ({self._value(list(self._scope.document_ids), 'uuid[]')})")
        if self._scope.collection_ids is not None:
            parts.append(self._membership("TRUE"))
        if self._scope.filter is not None:
            parts.append(self._filter(self._scope.filter))
        return " AND ".join(f"({part})" for part in parts) or "TRUE"

    def _membership(self, condition: str) -> str:
        """The document is in a searched collection (in any, where none was named) in which the condition holds of `m`."""
        searched = self._scope.collection_ids
        among = f" AND m.collection_id = ANY ({self._value(list(searched), 'uuid[]')})" if searched is not None else ""
        return (
            "EXISTS (SELECT FROM docray.collection_documents m"
            f" WHERE m.tenant_id = d.tenant_id AND m.document_id = d.id{among} AND {condition})"
        )

    def _filter(self, condition: Filter) -> str:
        match condition:
            case AllOf(parts):
                return " AND ".join(f"({self._filter(part)})" for part in parts) or "TRUE"
            case AnyOf(parts):
                return " OR ".join(f"({self._filter(part)})" for part in parts) or "FALSE"
            case Not(part):
                return f"NOT ({self._filter(part)})"
            case Condition():
                return self._condition(condition)

    def _condition(self, condition: Condition) -> str:
        field, operator, value = condition.field, condition.operator, condition.value
        if field == "page":
            return self._page(operator, value)
        if operator in _POSITIVE:
            return f"NOT ({self._condition(Condition(field, _POSITIVE[operator], value))})"
        if operator is Operator.EXISTS and not value:
            return f"NOT ({self._condition(Condition(field, operator, True))})"
        if field in _TEXTS:
            return self._text(_TEXTS[field], operator, value)
        if field == "created_at":
            return self._time(operator, value)
        place, _, key = field.partition(".")
        if place not in ("metadata", "attributes") or not key:
            raise ValueError(f"no such field: {field}")
        if not storable(key):
            return "FALSE"
        if place == "metadata":
            return self._json("d.metadata", key, operator, value)
        return self._membership(self._json("m.attributes", key, operator, value))

    def _json(self, column: str, key: str, operator: Operator, value: Any) -> str:
        if operator in (Operator.EQ, Operator.IN):
            texts = [json.dumps(one) for one in _scalars(operator, value)]
            member = self._member(column, key)
            return f"coalesce({member} = ANY ({self._value(texts, 'text[]')}::jsonb[]), FALSE)"
        if operator is Operator.EXISTS:
            return f"{self._member(column, key)} IS NOT NULL"
        if isinstance(value, str) and storable(value):
            member, right = self._member(column, key), self._value(value, "text")
            left, kind = f"({member} #>> '{{}}') COLLATE \"C\"", "string"
        elif _is_number(value):
            member, right = self._member(column, key), f"{self._value(repr(value), 'text')}::numeric"
            left, kind = f"({member})::numeric", "number"
        else:
            return "FALSE"
        return f"CASE WHEN jsonb_typeof({member}) = '{kind}' THEN {left} {_ORDER[operator]} {right} ELSE FALSE END"

    def _member(self, column: str, key: str) -> str:
        return f"({column} -> {self._value(key, 'text')})"

    def _text(self, column: str, operator: Operator, value: Any) -> str:
        if operator is Operator.EXISTS:
            return f"{column} IS NOT NULL"
        if operator in (Operator.EQ, Operator.IN):
            texts = [one for one in _scalars(operator, value) if isinstance(one, str)]
            return f"coalesce({column} = ANY ({self._value(texts, 'text[]')}), FALSE)"
        if not isinstance(value, str) or not storable(value):
            return "FALSE"
        return f"coalesce({column} COLLATE \"C\" {_ORDER[operator]} {self._value(value, 'text')} COLLATE \"C\", FALSE)"

    def _time(self, operator: Operator, value: Any) -> str:
        if operator is Operator.EXISTS:
            return "TRUE"
        if operator in (Operator.EQ, Operator.IN):
            times = [one for one in _scalars(operator, value) if isinstance(one, datetime)]
            return f"d.created_at = ANY ({self._value(times, 'timestamptz[]')})"
        return f"d.created_at {_ORDER[operator]} {self._value(value, 'timestamptz')}" if isinstance(value, datetime) else "FALSE"

    def _page(self, operator: Operator, value: Any) -> str:
        """Any page of the passage that holds; `ne` and `nin`: any page that is another."""
        if operator is Operator.EXISTS:
            return "TRUE" if value else "FALSE"
        if operator in (Operator.EQ, Operator.IN, Operator.NE, Operator.NIN):
            negated = operator in _POSITIVE
            numbers = [repr(one) for one in _scalars(_POSITIVE.get(operator, operator), value) if _is_number(one)]
            holds = f"p = ANY ({self._value(numbers, 'text[]')}::numeric[])"
            return f"EXISTS (SELECT FROM unnest(c.page_numbers) p WHERE {'NOT ' if negated else ''}{holds})"
        if not _is_number(value):
            return "FALSE"
        return f"EXISTS (SELECT FROM unnest(c.page_numbers) p WHERE p {_ORDER[operator]} {self._value(repr(value), 'text')}::numeric)"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and storable(value)


def _scalars(operator: Operator, value: Any) -> Sequence[Any]:
    """The values of `eq` or `in` that something stored could equal."""
    values = value if operator is Operator.IN else (value,)
    return [one for one in values if storable(one)]
