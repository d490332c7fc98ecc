"""Schema versions of the database: each is one plain SQL file, put in order by alembic.

alembic runs in its offline mode: it writes the statements from the present version to the newest, and `docray.stores.migrate` sends
them in one transaction. So no second driver is needed, and what runs is exactly what stands in the files.
"""

from importlib.resources import files

from alembic import op


def run_sql_file(name: str) -> None:
    """Adds `versions/NAME`, verbatim, to the statements of this upgrade."""
    text = (files(__package__) / "versions" / name).read_text(encoding="utf-8")
    op.get_context().impl.static_output(text)
