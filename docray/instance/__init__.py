"""One running docray on one machine: its data folder, its processes and who keeps them running."""
