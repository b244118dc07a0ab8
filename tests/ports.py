"""Ports for servers that tests start."""

from __future__ import annotations

import os
import random
import socket

_given: set[int] = set()


def free_port() -> int:
    """A port on which nobody listens, below those that the system gives to outgoing connections.

    It may be minutes until somebody listens there: none is given twice, nor to another of pytest-xdist's processes.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = random.randrange(20_000, 32_000)
        if port in _given or port % 8 != worker % 8:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
