"""Values, ports and errors. Standard library and pydantic only; no I/O of any kind."""
