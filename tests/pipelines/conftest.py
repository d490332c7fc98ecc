"""Fixtures of the pipelines' tests."""

from postgres_fixture import postgres_folder, postgres_template  # noqa: F401 - fixtures are used by name
from site_fixture import catalog, ingest, principal, queue, site  # noqa: F401 - fixtures are used by name
