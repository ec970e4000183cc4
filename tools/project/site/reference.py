"""Reference pages, written from the code: every command's help, and the docstrings of the public names."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer
from typer.testing import CliRunner

from avem.cli import app
from avem.tools.project.site.docstrings import render_docstring

ROOMS = ("avem", "extract", "cache", "train", "evaluate", "tools")
PACKAGES = ("avem.extract", "avem.cache", "avem.train", "avem.train.losses", "avem.evaluate", "avem.evaluate.emorealm")
"""Packages whose public names have a page."""

HELP_WIDTH = 80
DECORATORS = ("property", "classmethod", "staticmethod")


def command_pages() -> dict[str, str]:
    """A Markdown page for each command of `avem`, by its name: what `--help` prints, subcommands included."""
    pages = {}
    for name in getattr(typer.main.get_command(app), "commands", {}):
        parts = [f"# avem {name}\n"]
        for path in _below((name,)):
            parts += [] if len(path) == 1 else [f"## avem {' '.join(path)}\n"]
            parts.append(f"```text\n{_help(path)}\n```\n")
        pages[name] = "\n".join(parts)
    return pages


def python_pages(root: Path) -> dict[str, str]:
    """A Markdown page for each package of `PACKAGES`, by its name: signatures and docstrings of its public names.

    The source is read, not imported, so this needs neither torch nor seconds.

    Args:
        root: The repository.
    """
    return {package: _package_page(root, package) for package in PACKAGES}


def _below(path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """A command and every command below it."""
    command = typer.main.get_command(app)
    for word in path:
        command = getattr(command, "commands", {})[word]
    yield path
    for name in getattr(command, "commands", {}):
        yield from _below((*path, name))


def _help(path: tuple[str, ...]) -> str:
    shown = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": str(HELP_WIDTH), "TERMINAL_WIDTH": "80"})
    return shown.output.strip()


@dataclass(frozen=True, slots=True)
class _Definition:
    """A public name and the node that defines it."""

    name: str
    module: str
    node: ast.ClassDef | ast.FunctionDef


def _package_page(root: Path, package: str) -> str:
    tree = ast.parse(_source(root, package).read_text(encoding="utf-8"))
    parts = [f"# {package}\n", render_docstring(ast.get_docstring(tree) or "")]
    for found in _public(root, package, tree):
        parts.append(_definition(found))
    return "\n".join(parts)


def _source(root: Path, module: str) -> Path:
    """The file of a module: each room lies in its own folder, `avem` in `avem/`."""
    parts = module.split(".")
    parts = parts[1:] if len(parts) > 1 and parts[1] in ROOMS else parts
    base = root.joinpath(*parts)
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def _public(root: Path, package: str, tree: ast.Module) -> Iterator[_Definition]:
    """The package's public names in the order of `__all__`, or of the file where there is none."""
    own = [node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    for name in _listed(tree) or [name for name in own if not name.startswith("_")]:
        found = _find(root, package, name)
        if found:
            yield found


def _find(root: Path, module: str, name: str) -> _Definition | None:
    """Where a name is defined, through the modules that import it; None for what is no class or function."""
    tree = ast.parse(_source(root, module).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return _Definition(name, module, node)
    for each in ast.walk(tree):
        if not isinstance(each, ast.ImportFrom) or not (each.module or "").startswith("avem"):
            continue
        if name in [alias.asname or alias.name for alias in each.names]:
            submodule = _source(root, f"{each.module}.{name}").exists()
            return None if submodule else _find(root, str(each.module), name)
    return None


def _listed(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    return []


def _definition(found: _Definition) -> str:
    node = found.node
    text = render_docstring(ast.get_docstring(node) or "")
    if isinstance(node, ast.FunctionDef):
        return f"## {found.name}\n\n```python\n{_signature(node)}\n```\n\n{text}"
    parts = [f"## {found.name}\n", text, *_fields(node)]
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
            own = render_docstring(ast.get_docstring(method) or "")
            parts.append(f"### {found.name}.{method.name}\n\n```python\n{_signature(method)}\n```\n\n{own}")
    return "\n".join(parts)


def _signature(node: ast.FunctionDef) -> str:
    """The definition without its body, one argument a line where it is long."""
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    marks = [
        f"@{mark}"
        for mark in map(ast.unparse, node.decorator_list)
        if mark in ("property", "classmethod", "staticmethod")
    ]
    line = f"{node.name}({ast.unparse(node.args)}){returns}"
    if len(line) > HELP_WIDTH:
        body = ",\n    ".join(_arguments(node.args))
        line = f"{node.name}(\n    {body},\n){returns}"
    return "\n".join([*marks, line])


def _arguments(arguments: ast.arguments) -> list[str]:
    """Each argument with its annotation and default, as text."""
    placed = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(placed) - len(arguments.defaults)) + list(arguments.defaults)
    texts = [_argument(each, default) for each, default in zip(placed, defaults, strict=True)]
    if arguments.vararg:
        texts.append(f"*{ast.unparse(arguments.vararg)}")
    elif arguments.kwonlyargs:
        texts.append("*")
    texts += [
        _argument(each, default) for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    return [*texts, *([f"**{ast.unparse(arguments.kwarg)}"] if arguments.kwarg else [])]


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    text = ast.unparse(argument)
    if default is None:
        return text
    return f"{text} = {ast.unparse(default)}" if argument.annotation else f"{text}={ast.unparse(default)}"


def _fields(node: ast.ClassDef) -> Iterator[str]:
    """The annotated fields of a class, each with the docstring below it."""
    for index, each in enumerate(node.body):
        if (
            not isinstance(each, ast.AnnAssign)
            or not isinstance(each.target, ast.Name)
            or each.target.id.startswith("_")
        ):
            continue
        after = node.body[index + 1] if index + 1 < len(node.body) else None
        note = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            note = ": " + " ".join(inspect.cleandoc(after.value.value).split())
        default = f" = {ast.unparse(each.value)}" if each.value is not None else ""
        yield f"* `{each.target.id}: {ast.unparse(each.annotation)}{default}`{note}"
    yield ""
