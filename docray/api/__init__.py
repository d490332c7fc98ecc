"""The HTTP API, version 1: routes, bodies, errors, events. Not: business rules (services), SQL (stores), building anything (wiring)."""
