"""Schemathesis over the product's own OpenAPI: whatever it sends, never a server error, and always a described answer.

Driven by hand: schemathesis 4.32's pytest plugin and pytest 9.2 do not fit together.
"""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from tests.acceptance.conftest import Running

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
ENDLESS = "/v1/documents/{document_id}/events"  # a stream that ends when the document does


def test_no_request_breaks_the_server(instance: Running) -> None:
    schema = schemathesis.openapi.from_url(f"{instance.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations() if found.ok().path != ENDLESS]
    assert len(operations) >= 25
    problems = [problem for operation in operations if (problem := fuzzed(operation, instance))]
    assert problems == []


def fuzzed(operation: Any, instance: Running) -> str | None:
    """What the first bad answer to an operation was, None where there is none."""

    @given(case=operation.as_strategy())
    @settings(max_examples=20, deadline=None, derandomize=True, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    def run(case: Any) -> None:
        response = case.call(headers={"Authorization": f"Bearer {instance.api_key}"}, timeout=60)
        case.validate_response(response, checks=CHECKS)

    try:
        run()
    except (Exception, BaseExceptionGroup) as error:
        return f"{operation.method.upper()} {operation.path}: {error}"[:1500]
    return None
