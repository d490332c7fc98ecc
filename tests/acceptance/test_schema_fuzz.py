"""Schemathesis over the product's own OpenAPI: whatever it sends, never a server error, and always a described answer."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from tests.acceptance.conftest import Running


@pytest.fixture(scope="session")
def api_schema(instance: Running) -> Any:
    return schemathesis.openapi.from_url(f"{instance.url}/openapi.json")


schema = schemathesis.pytest.from_fixture("api_schema")
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


@schema.exclude(path_regex="/events$").parametrize()
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_request_breaks_the_server(case: Any, instance: Running) -> None:
    response = case.call(headers={"Authorization": f"Bearer {instance.api_key}"}, timeout=60)
    case.validate_response(response, checks=CHECKS)
