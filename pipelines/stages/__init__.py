"""The operators of the pipelines: a class each, whose name is what the Ray dashboard shows."""
