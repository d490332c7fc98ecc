"""Plain ASGI wrappers around the whole app, one concern a file. Outermost first: request_context, security_headers, admission."""
