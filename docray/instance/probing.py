"""Does something answer at that address? For start-up and watching: plain HTTP on loopback, without the weight of a full client.

(`httpx.get` loads the machine's certificates for each call, 50 ms of a core: polling with it doubled the start-up's work.)
"""

import http.client
from collections.abc import Mapping
from urllib.parse import urlsplit


def answers(url: str, headers: Mapping[str, str] | None = None, timeout_s: float = 3.0) -> bool:
    """Whether a GET is answered with 200 within the time."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", parts.path or "/", headers=dict(headers or {}))
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
