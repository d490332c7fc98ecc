"""A filter as JSON → the checked tree that the stores compile.

Owns what a filter may say and how a mistake is named: `filter.page.near` for an operator, `filter.colour` for a field, with the path of
`and`, `or` and `not` before it. Leaves what the conditions mean to `docray.stores.filter_sql`.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from docray.domain.errors import InvalidField
from docray.domain.questions import AllOf, AnyOf, Condition, Filter, Not, Operator

_PREFIXES = ("metadata.", "attributes.")
_NUMBERS = ("page",)
_TIMES = ("created_at",)
_TEXTS = ("filename", "title")
_FIELDS = "metadata.*, attributes.*, filename, title, page, created_at"
_OPERATORS = ", ".join(Operator)
_MOST_DEPTH = 16
_MOST_CONDITIONS = 200
_MOST_VALUES = 1_000


def parse_filter(condition: Mapping[str, Any]) -> Filter:
    """The filter of a JSON object; several members must all hold, none hold always.

    Raises:
        InvalidField: with `param` as the dotted path of what is wrong.
    """
    return _Parser().parse(condition, "filter", 0)


class _Parser:
    """Parses one filter; counts its conditions."""

    def __init__(self) -> None:
        self._conditions = 0

    def parse(self, condition: Any, path: str, depth: int) -> Filter:
        if not isinstance(condition, Mapping):
            raise InvalidField("A filter is a JSON object of fields and values.", path)
        if depth > _MOST_DEPTH:
            raise InvalidField(f"Filters nest at most {_MOST_DEPTH} deep.", path)
        parts = [part for name, value in condition.items() for part in self._member(name, value, f"{path}.{name}", depth)]
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _member(self, name: str, value: Any, path: str, depth: int) -> list[Filter]:
        if name in ("and", "or"):
            if not isinstance(value, list) or not value:
                raise InvalidField(f"`{name}` takes a list of filters.", path)
            parts = tuple(self.parse(one, f"{path}.{place}", depth + 1) for place, one in enumerate(value))
            return [AllOf(parts) if name == "and" else AnyOf(parts)]
        if name == "not":
            return [Not(self.parse(value, path, depth + 1))]
        if not _is_field(name):
            raise InvalidField(f"This field cannot be filtered by. Fields are {_FIELDS}; and, or, not combine filters.", path)
        operators = value if isinstance(value, Mapping) else {Operator.EQ.value: value}
        if not operators:
            raise InvalidField(f"Give a value or an operator: {_OPERATORS}.", path)
        shown = (f"{path}.{key}" if isinstance(value, Mapping) else path for key in operators)
        return [self._condition(name, key, one, where) for (key, one), where in zip(operators.items(), shown, strict=True)]

    def _condition(self, field: str, name: str, value: Any, path: str) -> Filter:
        self._conditions += 1
        if self._conditions > _MOST_CONDITIONS:
            raise InvalidField(f"A filter has at most {_MOST_CONDITIONS} conditions.", path)
        if name not in Operator.__members__.values():
            raise InvalidField(f"This operator is not known. Use one of: {_OPERATORS}.", path)
        operator = Operator(name)
        if operator is Operator.EXISTS:
            if not isinstance(value, bool):
                raise InvalidField("`exists` takes true or false.", path)
            return Condition(field, operator, value)
        if operator in (Operator.IN, Operator.NIN):
            return Condition(field, operator, tuple(_value(field, operator, one, path) for one in _list(value, path)))
        return Condition(field, operator, _value(field, operator, value, path))


def _is_field(name: str) -> bool:
    return name in (*_NUMBERS, *_TIMES, *_TEXTS) or any(name.startswith(prefix) and len(name) > len(prefix) for prefix in _PREFIXES)


def _list(value: Any, path: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise InvalidField("`in` and `nin` take a list of values.", path)
    if len(value) > _MOST_VALUES:
        raise InvalidField(f"At most {_MOST_VALUES} values.", path)
    return value


def _value(field: str, operator: Operator, value: Any, path: str) -> Any:
    """A value of the field's type."""
    if field in _TIMES:
        return _time(value, path)
    if field in _NUMBERS:
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidField("Pages are whole numbers.", path)
        return value
    if field in _TEXTS:
        if not isinstance(value, str):
            raise InvalidField("File names and titles are compared with text.", path)
        return value
    equality = operator in (Operator.EQ, Operator.NE, Operator.IN, Operator.NIN)
    if isinstance(value, Mapping | list) or (not equality and (value is None or isinstance(value, bool))):
        raise InvalidField("Compare with a text or a number; true, false and null can only be equal.", path)
    return value


def _time(value: Any, path: str) -> datetime:
    """A time in UTC; one without a zone is meant in UTC."""
    try:
        parsed = datetime.fromisoformat(value)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidField("Times are written as in RFC 3339, such as 2024-01-31T00:00:00Z.", path) from error
