"""The index: vectors by pgvector, postings of keywords."""

from docray.stores.migrations import run_sql_file

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Makes the tables of the index and the function that indexes a new embedding space."""
    run_sql_file("0002_index.sql")
