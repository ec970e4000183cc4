"""Builds the documentation site: `python -m avem.tools.project.site.build`, then open `build/site/index.html`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from avem.errors import AvemError, MissingFileError
from avem.tools.project.site.links import broken_links
from avem.tools.project.site.reference import command_pages, python_pages

SETTINGS = Path("docs/site.toml")
WORK = Path("build")
"""Where the site is made: `docs/` holds copies of the pages and the generated ones, `site/` the site."""

LINK = re.compile(r"(?<=\]\()\.\./([^)#\s]+)")
"""A Markdown link from `docs/` to another file of the repository."""
MENTION = re.compile(r"`docs/([\w-]+\.md)`")
"""A page that another names as a file of the repository; on the site it is a link."""
OWN_PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Files of the repository's root that are pages of the site, and their names there."""


def collect_pages(root: Path, out: Path) -> None:
    """Write everything that the site is made from into an empty folder.

    Files that a page links to outside `docs/` are copied beside the pages, so that the links work on the site as well.

    Args:
        root: The repository.
        out: Folder to make.
    """
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(root / "docs", out, ignore=shutil.ignore_patterns(SETTINGS.name))
    for source, target in OWN_PAGES.items():
        text = (root / source).read_text(encoding="utf-8")
        (out / target).write_text(text.replace("](docs/", "]("), encoding="utf-8")
    for page in out.glob("*.md"):
        text = LINK.sub(lambda link: _copied(root, out, link.group(1)), page.read_text(encoding="utf-8"))
        page.write_text(MENTION.sub(lambda found: _linked(out, found), text), encoding="utf-8")
    for folder, pages in (("commands", command_pages()), ("python", python_pages(root))):
        (out / "reference" / folder).mkdir(parents=True)
        for name, text in pages.items():
            (out / "reference" / folder / f"{name}.md").write_text(text, encoding="utf-8")


def _linked(out: Path, mention: re.Match[str]) -> str:
    """A link to a page that a text names as a file; the text as it is where there is no such page."""
    page = out / mention.group(1)
    return f"[{mention.group(1).removesuffix('.md')}]({page.name})" if page.is_file() else mention.group(0)


def _copied(root: Path, out: Path, path: str) -> str:
    """The address on the site of a repository's file that is linked to."""
    if path in OWN_PAGES:
        return OWN_PAGES[path]
    target = out / "files" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / path, target)
    return f"files/{path}"


def navigation(root: Path, out: Path) -> list[object]:
    """The site's navigation as Zensical reads it: the groups of `docs/site.toml`, then the generated reference.

    A page that no group names stands at the end of the group "More", so that none is lost.

    Raises:
        MissingFileError: A group names a page that is not there.
    """
    groups: dict[str, list[str]] = tomllib.loads((root / SETTINGS).read_text(encoding="utf-8"))["groups"]
    named = [page for pages in groups.values() for page in pages]
    for page in named:
        if not (out / page).is_file():
            raise MissingFileError(f"{SETTINGS} names {page}, which is not in docs/; correct one of the two.")
    more = sorted(path.name for path in out.glob("*.md") if path.name not in named)
    groups = {**groups, **({"More": more} if more else {})}
    tree: list[object] = []
    for title, pages in groups.items():
        tree.append({title: [*pages, *_generated(out)]} if title == "Reference" else {title: pages})
    return tree


def _generated(out: Path) -> list[object]:
    """The generated reference, as two groups."""
    found = {title: sorted((out / "reference" / title.lower()).glob("*.md")) for title in ("Commands", "Python")}
    return [{title: [path.relative_to(out).as_posix() for path in paths]} for title, paths in found.items()]


def build_site(root: Path, work: Path) -> Path:
    """Collect the pages, build the site with Zensical, and check its links.

    Args:
        root: The repository.
        work: Folder to make it in.

    Returns:
        The site's folder.

    Raises:
        AvemError: Zensical failed, or a link leads nowhere; the message names it.
    """
    collect_pages(root, work / "docs")
    settings = (root / SETTINGS).read_text(encoding="utf-8").split("[groups]")[0]
    config = work / "zensical.toml"
    config.write_text(settings.replace("[project]", f"[project]\nnav = {_toml(navigation(root, work / 'docs'))}", 1))
    shutil.rmtree(work / "site", ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--config-file", str(config)]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    if done.returncode or not (work / "site" / "index.html").is_file():
        raise AvemError(f"Zensical failed: {(done.stderr or done.stdout).strip()[-600:]}")
    if broken := broken_links(work / "site"):
        raise AvemError("These links of the site lead nowhere:\n" + "\n".join(broken))
    return work / "site"


def _toml(value: object) -> str:
    """A list of texts, lists and one-key tables as an inline TOML value."""
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{name}" = {_toml(each)}' for name, each in value.items()) + " }"
    return f'"{value}"'


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{build_site(Path.cwd(), Path.cwd() / WORK) / 'index.html'}\n")
    except AvemError as error:
        sys.exit(f"avem: {error}")
