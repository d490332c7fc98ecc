"""Adapters: one per port and technology. Only `docray.wiring` imports them."""
