"""Hostile PDFs are parsed here: in children of a clean parser server, each alone with one file.

`client` is what docray uses; `process` is its end of a server; `server` forks; `child` is one job's life; `jobs` are the jobs; `confinement`
takes rights away; `wire` is what goes between them; `probe` tells what this machine can do. Leaves PDFs to `docray.ingestion.extract`.
"""
