"""Fixtures of the integration tests."""

from api_harness import api, api_settings  # noqa: F401 - fixtures are used by name
from postgres_fixture import (  # noqa: F401 - fixtures are used by name
    catalog,
    database,
    new_tenant,
    other_principal,
    postgres_folder,
    postgres_template,
    principal,
    queue,
    superuser,
    test_database,
    worker_database,
)
