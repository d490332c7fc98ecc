"""What keeps docray standing when parts of it fall, and what lets tests make them fall."""
