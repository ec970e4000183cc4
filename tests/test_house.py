"""The house rules that the tree can be asked about: rooms, doors, imports, packages and signatures."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
ROOMS = ("avem", "extract", "cache", "train", "evaluate", "tools")
MOST_FILES = 20
"""Flat Python files of a folder; more want a room of their own."""

MAY_IMPORT = {
    "avem": set(),
    "cache": {"avem"},
    "extract": {"avem", "cache"},
    "train": {"avem", "cache"},
    "evaluate": {"avem", "cache", "train", "extract"},
    "tools": set(ROOMS),
}
"""The room that each room may import from; commands may import all."""

DOORS = {
    "avem.extract": "extract ExtractOptions ExtractReport load_video_encoder load_audio_encoder read_dataset "
    "sample_frames",
    "avem.cache": "FeatureStore StoreWriter StreamSpec ScoreCache mine_negatives match_mutual ensure_negatives "
    "store_info",
    "avem.train": "load_model ScoredSequence AudiovisualLM AudiovisualConfig PreferenceConfig SupervisedConfig "
    "train_preferences train_supervised",
    "avem.train.losses": "LogProbs avem_dpo naive_dpo vista_dpo",
    "avem.evaluate": "emorealm bench_emorealm write_report BenchResult",
    "avem.evaluate.emorealm": "read_questions score",
}
"""What `docs/architecture.md` promises of each package."""


def sources() -> list[Path]:
    return [path for room in ROOMS for path in sorted((REPOSITORY / room).rglob("*.py"))]


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts if parts[0] == "avem" else ("avem", *parts))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def modules() -> dict[str, Path]:
    return {module_name(path): path for path in sources()}


@cache
def imports() -> dict[str, set[str]]:
    """Module to the modules that it imports when it runs, inside functions too; types alone do not count."""
    return {name: _imports_of(parsed(path)) & modules().keys() - {name} for name, path in modules().items()}


def _imports_of(tree: ast.Module) -> set[str]:
    for_types = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in node.body
        for part in ast.walk(inner)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (full & modules().keys()) or {node.module}
    return found


def test_no_module_imports_itself_in_a_circle():
    done: dict[str, bool] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(imports()[name]):
                visit(other, (*path, name))
            done[name] = True

    for name in imports():
        visit(name, ())


def test_rooms_import_only_what_they_may():
    def room(name: str) -> str:
        part = name.split(".")[1] if "." in name else ""
        return part if part in ROOMS else "avem"

    for name, others in imports().items():
        if name.startswith("avem.commands") or name in ("avem.cli", "avem.__main__"):
            continue
        strange = {other for other in others if room(other) not in {room(name), *MAY_IMPORT[room(name)]}}
        assert not strange, f"{name} imports {sorted(strange)}"


def test_no_folder_is_crowded():
    for room in ROOMS:
        for folder in [REPOSITORY / room, *(REPOSITORY / room).rglob("*/")]:
            files = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
            assert len(files) <= MOST_FILES, f"{folder.relative_to(REPOSITORY)} holds {len(files)} files"


def test_the_wheel_holds_every_package():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    there = {module_name(path) for path in sources() if path.name == "__init__.py"}
    assert set(settings["packages"]) == there
    folders = {path.parent for path in sources()}
    assert folders == {path.parent for path in sources() if path.name == "__init__.py"}, "a folder lacks __init__.py"


def test_models_and_stores_have_types():
    untyped = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno} {argument.arg}"
        for path in sources()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        if argument.arg in ("model", "store", "language_model", "tokenizer")
        and argument.annotation is not None
        and ast.unparse(argument.annotation) == "Any"
    ]
    assert len(untyped) <= 4, untyped


def test_the_formatter_decides():
    marks = [path for path in sources() for line in path.read_text().splitlines() if line.endswith("# fmt: skip")]
    assert len(marks) <= 60


@pytest.mark.parametrize("package", DOORS)
def test_doors_open(package):
    door = importlib.import_module(package)
    for name in DOORS[package].split():
        assert getattr(door, name) is not None
        assert name in door.__all__


PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
NAMED = re.compile(r"`((?:avem|extract|train|evaluate|tools|docs|tests)/[\w./-]*|cache/[\w/-]*\.py)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_files_that_are_there(page):
    named = set(NAMED.findall(page.read_text(encoding="utf-8")))
    missing = sorted(name for name in named if not (REPOSITORY / name).exists())
    assert not missing
