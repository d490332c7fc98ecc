"""Fixtures of the pipelines' tests."""

from postgres_fixture import postgres_template  # noqa: F401 - fixtures are used by name
from s3_fixture import s3, s3_place  # noqa: F401 - fixtures are used by name
from site_fixture import catalog, ingest, postgres_folder, principal, queue, server, site  # noqa: F401 - fixtures are used by name
