"""Checks of a built site: every link inside it leads to a page, a file or a heading that is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ADDRESSES = {"href", "src"}


@dataclass
class _Page(HTMLParser):
    """The addresses and the ids of one page."""

    addresses: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag links to and what it can be linked by."""
        for name, value in attrs:
            if name in ADDRESSES and value and tag != "base":
                self.addresses.append(value)
            if name in ("id", "name") and value:
                self.ids.add(value)


def read_page(path: Path) -> _Page:
    """The links and ids of an HTML file."""
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def broken_links(site: Path) -> list[str]:
    """Links that lead nowhere, as `page: address`; links to other sites are not followed.

    Args:
        site: Folder of HTML files.
    """
    pages = {path.resolve(): read_page(path) for path in sorted(site.rglob("*.html"))}
    return [
        f"{path.relative_to(site.resolve())}: {address}"
        for path, page in pages.items()
        if path.name != "404.html"  # is served at any address, so its links are absolute
        for address in page.addresses
        if not _leads_somewhere(path, address, pages)
    ]


def _leads_somewhere(path: Path, address: str, pages: dict[Path, _Page]) -> bool:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return True
    target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        return False
    return not parts.fragment or target not in pages or unquote(parts.fragment) in pages[target].ids
