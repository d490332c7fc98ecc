"""The command line: one file per group of commands over `docray.client` and `docray.instance`. Not: logic."""
