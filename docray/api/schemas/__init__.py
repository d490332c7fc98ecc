"""The objects of the contract as pydantic models. Requests are checked with theirs; answers are only described by theirs (OpenAPI),
they are written by `docray.api.render`."""
