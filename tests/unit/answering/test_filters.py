"""Filters of the API become checked trees; what is wrong is named by its path."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docray.answering.filters import parse_filter
from docray.domain.errors import InvalidField
from docray.domain.questions import AllOf, AnyOf, Condition, Not, Operator

EQ, NE, IN, GTE, LT, LTE, EXISTS = Operator.EQ, Operator.NE, Operator.IN, Operator.GTE, Operator.LT, Operator.LTE, Operator.EXISTS


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"metadata.year": 2021}, Condition("metadata.year", EQ, 2021)),
        ({"metadata.a.b": None}, Condition("metadata.a.b", EQ, None)),
        ({"metadata.year": {"gte": 2020, "lt": 2022}}, AllOf((Condition("metadata.year", GTE, 2020), Condition("metadata.year", LT, 2022)))),
        ({"title": {"ne": "x"}, "page": {"lte": 5}}, AllOf((Condition("title", NE, "x"), Condition("page", LTE, 5)))),
        ({"attributes.team": {"in": ["a", 1, True]}}, Condition("attributes.team", IN, ("a", 1, True))),
        ({"metadata.x": {"exists": False}}, Condition("metadata.x", EXISTS, False)),
        ({"and": [{"page": 1}, {"filename": "a.pdf"}]}, AllOf((Condition("page", EQ, 1), Condition("filename", EQ, "a.pdf")))),
        ({"or": [{"page": 1}]}, AnyOf((Condition("page", EQ, 1),))),
        ({"not": {"or": [{"page": 1}, {"page": 2}]}}, Not(AnyOf((Condition("page", EQ, 1), Condition("page", EQ, 2))))),
        ({"created_at": {"gte": "2024-01-31T12:00:00+02:00"}}, Condition("created_at", GTE, datetime(2024, 1, 31, 10, tzinfo=UTC))),
        ({"created_at": "2024-01-31"}, Condition("created_at", EQ, datetime(2024, 1, 31, tzinfo=UTC))),
        ({}, AllOf(())),
    ],
)
def test_what_is_written_is_what_is_meant(written, meant):
    assert parse_filter(written) == meant


@pytest.mark.parametrize(
    ("written", "param"),
    [
        ([], "filter"), ("x", "filter"), ({"colour": 1}, "filter.colour"), ({"metadata.": 1}, "filter.metadata."),
        ({"metadata": 1}, "filter.metadata"),
        ({"page": {"near": 3}}, "filter.page.near"), ({"metadata.year": {"near": 3}}, "filter.metadata.year.near"), ({"page": {}}, "filter.page"),
        ({"or": 3}, "filter.or"), ({"and": []}, "filter.and"), ({"and": [{"page": 1}, 3]}, "filter.and.1"), ({"not": 3}, "filter.not"),
        ({"or": [{"not": {"colour": 1}}]}, "filter.or.0.not.colour"), ({"page": "3"}, "filter.page"), ({"page": True}, "filter.page"),
        ({"page": {"in": 3}}, "filter.page.in"), ({"page": {"in": [1, 2.5]}}, "filter.page.in"), ({"title": {"gt": 3}}, "filter.title.gt"),
        ({"metadata.x": {"gt": None}}, "filter.metadata.x.gt"), ({"metadata.x": [1]}, "filter.metadata.x"),
        ({"metadata.x": {"eq": {}}}, "filter.metadata.x.eq"),
        ({"metadata.x": {"exists": "yes"}}, "filter.metadata.x.exists"), ({"created_at": "yesterday"}, "filter.created_at"),
        ({"created_at": {"lt": 5}}, "filter.created_at.lt"), ({"created_at": "0001-01-01T00:00:00+10:00"}, "filter.created_at"),
        ({"metadata.x": {"in": list(range(1001))}}, "filter.metadata.x.in"),
    ],
)  # fmt: skip
def test_mistakes_are_named_by_their_path(written, param):
    with pytest.raises(InvalidField) as caught:
        parse_filter(written)
    assert caught.value.param == param


def test_filters_have_bounds():
    deep = {"page": 1}
    for _ in range(100):
        deep = {"not": deep}
    for written in (deep, {"or": [{"page": n} for n in range(500)]}):
        with pytest.raises(InvalidField):
            parse_filter(written)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(["and", "or", "not", "page", "title", "created_at", "metadata.x", "eq", "in", "gt", "exists", "odd"]),
            children,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["and", "or", "not", "page", "title", "created_at", "metadata.x", "odd"]), json_values, max_size=3))
def test_any_json_is_a_filter_or_a_named_mistake(written):
    mistake: InvalidField | None = None
    try:
        parse_filter(written)
    except InvalidField as error:
        mistake = error
    assert mistake is None or (mistake.param or "").startswith("filter")
