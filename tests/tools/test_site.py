"""The documentation site: complete reference, checked links, and a build from nothing."""

from __future__ import annotations

import importlib

import pytest
import typer

from avem.cli import app
from avem.errors import MissingFileError
from avem.tools.project.site import build, links, reference
from tests.pages.commands import ROOT


def every_command(command, path=()):
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from every_command(child, (*path, name))


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    out = tmp_path_factory.mktemp("site") / "docs"
    build.collect_pages(ROOT, out)
    return out


def test_the_reference_has_every_command_and_option(collected):
    text = "\n".join(page.read_text() for page in (collected / "reference" / "commands").glob("*.md"))
    for path, command in every_command(typer.main.get_command(app)):
        if not path:
            continue
        assert f"# avem {' '.join(path)}\n" in text
        own = text.split(f"# avem {' '.join(path)}\n", 1)[1].split("```\n", 2)[0]
        for option in command.params:
            if option.param_type_name == "option" and not option.hidden:
                assert option.opts[0] in own, (path, option.opts)


@pytest.mark.parametrize("package", reference.PACKAGES)
def test_the_reference_has_every_public_name(collected, package):
    text = (collected / "reference" / "python" / f"{package}.md").read_text()
    module = importlib.import_module(package)
    names = getattr(module, "__all__", ())
    found = [name for name in names if isinstance(getattr(module, name), type) or callable(getattr(module, name))]
    assert [name for name in found if f"## {name}\n" not in text] == []
    assert text.count("```") % 2 == 0


def test_docstrings_become_lists():
    text = reference.render_docstring("Do it.\n\nArgs:\n    one: First,\n        and more.\n    two: Second.\n")
    assert text == "Do it.\n\n**Arguments**\n\n* `one`: First, and more.\n* `two`: Second.\n"


def test_broken_links_are_found(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="sub/b.html#there">ok</a><a href="sub/b.html#gone">no</a>'
        '<a href="https://example.org/x">out</a><a href="#top">ok</a><img src="none.png"><a href="sub/">ok</a>'
    )
    (tmp_path / "sub" / "b.html").write_text('<h2 id="there">B</h2><a href="../a.html">ok</a><a href="c.html">no</a>')
    (tmp_path / "sub" / "index.html").write_text("")
    assert links.broken_links(tmp_path) == ["a.html: sub/b.html#gone", "a.html: none.png", "sub/b.html: c.html"]


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page(collected, tmp_path):
    tree = build.navigation(ROOT, collected)
    pages = [page for group in tree for page in next(iter(group.values())) if isinstance(page, str)]
    assert sorted(pages) == sorted(path.name for path in collected.glob("*.md"))
    assert len(pages) == len(set(pages))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "site.toml").write_text('[groups]\n"Start" = ["nowhere.md"]\n')
    with pytest.raises(MissingFileError, match=r"nowhere\.md"):
        build.navigation(tmp_path, collected)


def test_a_page_that_is_named_as_a_file_becomes_a_link(collected):
    assert "`docs/store.md`" in (ROOT / "docs" / "architecture.md").read_text()
    text = (collected / "architecture.md").read_text()
    assert "[store](store.md)" in text
    assert "`docs/store.md`" not in text


@pytest.mark.slow
def test_the_site_is_built_and_no_link_is_broken(tmp_path):
    pytest.importorskip("zensical", reason="zensical is not installed")
    site = build.build_site(ROOT, tmp_path)
    assert (site / "reference" / "commands" / "train.html").is_file()
    text = (site / "preference-data.html").read_text()
    assert "files/tools/prefs/schemas/preference_row.schema.json" in text, "a linked file outside docs/ is not there"
