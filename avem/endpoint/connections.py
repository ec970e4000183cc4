"""HTTP sessions: kept-alive connections, the environment's proxies, and certificates that are found everywhere."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import certifi

from avem.errors import SettingError

CONNECT_S = 10.0
"""Longest wait for a connection, in seconds."""


def open_session(url: str, parallel: int, timeout_s: float) -> aiohttp.ClientSession:
    """A session for requests to one address; call it where an event loop runs, and close the session there.

    Args:
        url: The address; it decides about proxy and certificates, which are looked up once and not for every request.
        parallel: Connections at once.
        timeout_s: For a whole request, from connecting to the reply's last byte.

    Raises:
        SettingError: The environment names a proxy that is none of HTTP.
    """
    limits = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)
    trust = _certificates() if url.startswith("https:") else True
    connector = aiohttp.TCPConnector(limit=parallel, ssl=trust)
    cookies = aiohttp.DummyCookieJar()  # an interface of this kind sets none that matter
    return aiohttp.ClientSession(
        connector=connector, timeout=limits, cookie_jar=cookies, proxy=proxy_for(url), auto_decompress=False
    )


def proxy_for(url: str) -> str | None:
    """The proxy that the environment (`https_proxy`, `all_proxy`, `no_proxy` and the like) names for an address.

    Raises:
        SettingError: It is none of HTTP.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return None  # no address at all, which the request says better
    known = getproxies()
    proxy = known.get(parts.scheme) or known.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return None
    if not proxy.startswith(("http://", "https://")):
        raise SettingError(f"The environment names the proxy {proxy!r}; set one of HTTP, or list the host in no_proxy.")
    return proxy


def _certificates() -> ssl.SSLContext:
    """The system's certificates, where it has any, and certifi's."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
