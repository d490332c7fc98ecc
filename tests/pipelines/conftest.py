"""Fixtures of the pipelines' tests."""

from postgres_fixture import postgres_template  # noqa: F401 - fixtures are used by name
from site_fixture import catalog, ingest, postgres_folder, principal, queue, server, site  # noqa: F401 - fixtures are used by name
