"""Whether anything answers at an address, looked up before anything heavy is loaded."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

from avem.errors import EndpointError
from avem.guards.secrets import mask, remember_url

PATIENCE_S = 3.0
"""Longest wait for one connection. A server that takes longer is left to the requests, which are more patient."""
AGAIN_S = 0.5
"""Pause before the second try."""


def need_endpoint(url: str | None, saved: Path | None = None) -> None:
    """Refuse an address at which nothing listens; None passes, and so does one behind a proxy.

    Args:
        url: The address.
        saved: Folder of an earlier run's answers. If it holds some, nothing is refused: perhaps all are there already.

    Raises:
        EndpointError: The connection is refused, or the host is not known.
    """
    if url is None or (saved is not None and next(saved.glob("**/*.jsonl"), None) is not None):
        return
    from urllib.request import getproxies, proxy_bypass  # takes a tenth of what the command line needs to start

    remember_url(url)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return  # no address at all, which the settings say better
    proxies = getproxies()
    behind_proxy = (parts.scheme in proxies or "all" in proxies) and not proxy_bypass(host or "")
    if not host or parts.scheme not in ("http", "https") or behind_proxy:
        return
    if _closed(host, port) and (reason := _closed(host, port, AGAIN_S)):
        raise EndpointError(
            f"{mask(url)} can't be reached ({reason}); start the server, or give the right address.", stops_all=True
        )


def _closed(host: str, port: int, after_s: float = 0.0) -> str:
    """Why no connection can be made; empty where one can, or where that is not known in time."""
    time.sleep(after_s)
    try:
        socket.create_connection((host, port), PATIENCE_S).close()
    except TimeoutError:
        return ""
    except ConnectionRefusedError:
        return "nothing listens there: the connection is refused"
    except socket.gaierror:
        return f"the host {host} is not known"
    except (OSError, UnicodeError):
        return ""
    return ""
