"""Ray Data programs, run as `python -m pipelines.X` from the project's folder. Not: algorithms, engine loading, SQL."""
