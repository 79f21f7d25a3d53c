"""The port on which the processes of one machine meet."""

from __future__ import annotations

import os
import socket

from kdjax.errors import UserError

HOST = '127.0.0.1'


def free_port() -> int:
    """One that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def checked_port(port: int) -> int:
    """The port, if it can be had.

    Raises:
        UserError: it is no port, somebody listens on it, or it may not be opened.
    """
    if not 0 < port < 65536:
        raise UserError(f'--port {port} is no port; give 1 to 65535, or leave --port out to get a free one')
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            raise UserError(
                f'--port {port}: {why} on {HOST}; choose another, or leave --port out to get a free one'
            ) from error
    return port
