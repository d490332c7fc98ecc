"""Free ports on this machine. Leaves who listens on them to the supervisor."""

import random
import socket


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether nothing listens on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def next_free(wanted: int, host: str = "127.0.0.1") -> int:
    """The wanted port or the next free one above it; OSError when there is none."""
    for port in range(wanted, min(wanted + 1000, 65536)):
        if is_free(port, host):
            return port
    raise OSError(f"no free port from {wanted} on")


def any_free(count: int, host: str = "127.0.0.1") -> list[int]:
    """Distinct ports that the kernel calls free at this moment."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((host, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def free_block(size: int, low: int, high: int, host: str = "127.0.0.1") -> int:
    """The first port of a block of free ones in [low, high), chosen at random so that instances keep apart."""
    starts = list(range(low, high - size, size))
    random.shuffle(starts)
    for start in starts:
        if all(is_free(port, host) for port in range(start, start + size)):
            return start
    raise OSError(f"no {size} free ports in a row between {low} and {high}")
