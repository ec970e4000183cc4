"""Who may ask: the token, and the headers by which a browser tells that another page sent a request."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie

NAMES = ("127.0.0.1", "localhost")
"""Names under which the page is served; any other `Host` is a page elsewhere that had its name point here."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; img-src data:; "
    "media-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every response."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Lets in whoever holds the token, from this machine's own page.

    Args:
        port: Where the page is served.
        token: The secret; empty lets in every page of this machine's browser that is served here.
    """

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def url(self) -> str:
        """The address to open, with the token."""
        return f"http://{NAMES[0]}:{self.port}/" + (f"?token={self.token}" if self.token else "")

    @property
    def cookie_name(self) -> str:
        """Cookies do not tell ports apart, so the name does."""
        return f"avem-{self.port}"

    @property
    def cookie(self) -> str:
        """The cookie that the address with the token sets."""
        return f"{self.cookie_name}={self.token}; HttpOnly; SameSite=Lax; Path=/"

    def opens(self, token: str) -> bool:
        """Whether a token is the right one."""
        return bool(self.token) and secrets.compare_digest(token.encode(), self.token.encode())

    def fault(self, headers: Mapping[str, str], *, posts: bool) -> str:
        """Why a request is refused; empty where it is not.

        Args:
            headers: Of the request.
            posts: Whether it asks for work to be done.
        """
        if not self.is_own_host(headers.get("Host", "")):
            return "This page is served under 127.0.0.1 and localhost only."
        if posts and headers.get("Origin", "") not in {f"http://{name}:{self.port}" for name in NAMES}:
            return "Requests are taken from this page only."
        if self.token and not self.opens(self._given(headers.get("Cookie", ""))):
            return "Open the address that avem serve printed; it holds the token."
        return ""

    def is_own_host(self, host: str) -> bool:
        """Whether a `Host` is one of ours."""
        return host in {f"{name}:{self.port}" for name in NAMES}

    def _given(self, cookies: str) -> str:
        """The token of a request's cookies."""
        try:
            found = SimpleCookie(cookies).get(self.cookie_name)
        except CookieError:
            return ""
        return "" if found is None else found.value
