"""Grids of runs, read from TOML files: what each run differs in, the seeds, and the paper's figures.

```toml
title = "Components of AVEm-DPO"
columns = ["basic", "stress"]         # measures in the table, see `avem.tools.sweep.measures`
seeds = [0, 1, 2]
settings = { epochs = 2 }             # of every run, below presets and --set

[base]                                # optional: the model before training
paper = [77.3, 55.1]

[[runs]]
name = "w/o PMP"
preset = "no-pmp"                     # and, or instead: settings = { lambda_av = 0.0 }
paper = [81.0, 79.6]                  # optional

[[blocks]]                            # the paper's figures of the same runs on another model; nan for a dash
model = "EmotionLLaMA*"
family = "emotion_llama"              # beside the runs where they start from a model of it, else below the table
paper = { base = [60.1, 40.2], "w/o PMP" = [66.0, nan] }

[[runs]]
name = "contrastive decoding"
decoding = "contrastive"              # nothing is trained: the base, decoded otherwise

[[curves]]                            # one run for each entry of values
name = "gamma_tpd"
options = ["gamma_tpd"]
values = [[0.0], [0.1], [0.2]]
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from avem.errors import AvemError, DataError, MissingFileError, SettingError
from avem.starts import tuned_model, warn_if_tuned
from avem.tools.sweep.measures import MEASURES
from avem.train.settings.presets import PREFERENCE_PRESETS, preset
from avem.train.settings.sources import read_toml

GRIDS = files("avem.tools.sweep") / "grids"
FIELDS = {"title", "columns", "seeds", "settings", "base", "runs", "curves", "blocks"}
BLOCK_FIELDS = {"model", "family", "paper"}
BASE = "base"
"""Name of the row of the model before training."""
OURS = "The paper's base"
"""What the paper's own reference model is called where another one's figures stand beside the runs."""
RUN_FIELDS = {"name", "preset", "settings", "paper", "decoding"}
CURVE_FIELDS = {"name", "options", "values"}


@dataclass(frozen=True, slots=True)
class GridRun:
    """One row of the table."""

    name: str
    settings: Mapping[str, Any]
    """What it differs in from the sweep's own settings."""
    paper: tuple[float, ...] = ()
    """The paper's figures, in the grid's columns; empty where it has none."""
    curve: str = ""
    """The curve that it is a point of."""
    value: float = 0.0
    """Its position on that curve."""
    decoding: str = ""
    """`contrastive`: nothing is trained, the base is evaluated with contrastive decoding."""


@dataclass(frozen=True, slots=True)
class PaperBlock:
    """The paper's figures of a grid's runs on another model."""

    model: str
    paper: Mapping[str, tuple[float, ...]]
    """Name of a run, or `base`, to figures in the grid's columns; nan for a dash."""
    family: str = ""
    """Family of the models that these figures belong beside."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table's or a figure's worth of runs."""

    name: str
    title: str
    columns: tuple[str, ...]
    seeds: tuple[int, ...]
    runs: tuple[GridRun, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    base: GridRun | None = None
    """The model before training, if the table shows it."""
    blocks: tuple[PaperBlock, ...] = ()
    """The paper's figures on other models, shown below the runs."""

    @property
    def rows(self) -> tuple[GridRun, ...]:
        """Rows of the table, the base first."""
        return (*((self.base,) if self.base else ()), *self.runs)


def grid_names() -> list[str]:
    """Names of the grids that come with avem."""
    return sorted(item.name.removesuffix(".toml") for item in GRIDS.iterdir() if item.name.endswith(".toml"))


def read_grid(name_or_path: str) -> Grid:
    """Read a grid that comes with avem, or a file of one's own.

    Raises:
        SettingError: There is no such grid; the message lists those there are.
        MissingFileError: There is no such file.
        DataError: The file does not describe a grid; the message names the entry.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        if name_or_path not in grid_names():
            raise SettingError(
                f"There is no grid {name_or_path}; choose one of {', '.join(grid_names())}, or give a .toml file."
            )
        path = Path(str(GRIDS / f"{name_or_path}.toml"))
    if not path.is_file():
        raise MissingFileError(f"There is no file {path}; give your own, or one of {', '.join(grid_names())}.")
    content = read_toml(path)
    try:
        return _grid(content, path)
    except AvemError:
        raise
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not written as a grid is ({error}); see `avem.tools.sweep.grid`.") from error


def _grid(content: Mapping[str, Any], path: Path) -> Grid:
    _only(content, FIELDS, str(path))
    columns = tuple(content.get("columns", ()))
    for column in columns:
        if column not in MEASURES:
            raise DataError(f"{path} asks for the column {column}; known ones: {', '.join(MEASURES)}.")
    runs = [_run(entry, columns, f"{path}, run {number}") for number, entry in enumerate(content.get("runs", ()), 1)]
    for number, entry in enumerate(content.get("curves", ()), 1):
        runs += _curve(entry, f"{path}, curve {number}")
    if not runs:
        raise DataError(f"{path} has neither runs nor curves.")
    base = content.get("base")
    names = [*([] if base is None else [BASE]), *(run.name for run in runs)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{path} has two runs with the name {twice[0]}; give each its own.")
    return Grid(
        path.stem,
        str(content.get("title", path.stem)),
        columns,
        _seeds(content.get("seeds", [0]), path),
        tuple(runs),
        content.get("settings", {}),
        None if base is None else _base(base, columns, f"{path}, base"),
        tuple(
            _block(entry, columns, names, f"{path}, block {n}") for n, entry in enumerate(content.get("blocks", ()), 1)
        ),
    )


def for_family(grid: Grid, family: str) -> Grid:
    """The grid with the figures beside its runs that the paper has of a model of their family.

    Args:
        grid: As it was read.
        family: Of the model that the runs start from, such as `emotion_llama`.
    """
    chosen = next((block for block in grid.blocks if block.family and block.family == family), None)
    if chosen is None:
        return grid
    own = {run.name: run.paper for run in grid.rows if run.paper}
    blocks = tuple(PaperBlock(OURS, own) if block is chosen else block for block in grid.blocks)
    runs = tuple(replace(run, paper=chosen.paper.get(run.name, ())) for run in grid.runs)
    base = None if grid.base is None else replace(grid.base, paper=chosen.paper.get(BASE, ()))
    return replace(grid, title=f"{grid.title}; the paper's {chosen.model}", runs=runs, base=base, blocks=blocks)


def without_blocks(grid: Grid) -> Grid:
    """The grid without the paper's figures on other models."""
    return replace(grid, blocks=())


def label_start(grid: Grid, model: str) -> Grid:
    """The grid with its title and base labelled, if its runs start from a model that is tuned already.

    The base's row then has the paper's figures of the full method, since that, not the paper's base, is what it is.

    Args:
        grid: As it was read.
        model: What the runs start from.
    """
    start = tuned_model(model)
    if start is None:
        return grid
    warn_if_tuned(model)
    title = f"{grid.title}; every run starts from {start.label}"
    if grid.base is None:
        return replace(grid, title=title)
    full = next((run.paper for run in grid.runs if run.paper and not run.settings and not run.decoding), ())
    return replace(grid, title=title, base=replace(grid.base, name=start.label, paper=full))


def _run(entry: Mapping[str, Any], columns: Sequence[str], where: str) -> GridRun:
    _only(entry, RUN_FIELDS, where)
    if not entry.get("name"):
        raise DataError(f"{where} has no name.")
    chosen = preset(PREFERENCE_PRESETS, entry["preset"]) if "preset" in entry else {}
    paper = tuple(float(value) for value in entry.get("paper", ()))
    if paper and len(paper) != len(columns):
        raise DataError(f"{where} has {len(paper)} figures of the paper for {len(columns)} columns.")
    decoding = str(entry.get("decoding", ""))
    if decoding not in ("", "contrastive"):
        raise DataError(f"{where} asks for the decoding {decoding}; only contrastive is known.")
    return GridRun(str(entry["name"]), {**chosen, **entry.get("settings", {})}, paper, decoding=decoding)


def _block(entry: Any, columns: Sequence[str], names: Sequence[str], where: str) -> PaperBlock:
    _only(entry, BLOCK_FIELDS, where)
    if not entry.get("model"):
        raise DataError(f"{where} has no model.")
    paper = {name: tuple(map(float, figures)) for name, figures in entry.get("paper", {}).items()}
    for name, figures in paper.items():
        if name not in names:
            raise DataError(f"{where} has figures of {name}, which is no run of the grid.")
        if len(figures) != len(columns):
            raise DataError(f"{where} has {len(figures)} figures of {name} for {len(columns)} columns.")
    return PaperBlock(str(entry["model"]), paper, str(entry.get("family", "")))


def _base(entry: Any, columns: Sequence[str], where: str) -> GridRun:
    _only(entry, RUN_FIELDS, where)
    return _run({**entry, "name": BASE}, columns, where)


def _curve(entry: Mapping[str, Any], where: str) -> list[GridRun]:
    _only(entry, CURVE_FIELDS, where)
    try:
        name, options, values = str(entry["name"]), entry["options"], entry["values"]
        settings = [dict(zip(options, point, strict=True)) for point in values]
        return [
            GridRun(f"{name} = {'/'.join(map(str, point))}", chosen, curve=name, value=float(point[0]))
            for point, chosen in zip(values, settings, strict=True)
        ]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{where} needs a name, options, and for each point as many values as there are options ({error})."
        ) from error


def _seeds(seeds: Any, path: Path) -> tuple[int, ...]:
    if not isinstance(seeds, list) or not seeds or any(type(seed) is not int or seed < 0 for seed in seeds):
        raise DataError(f"{path} has the seeds {seeds}; they must be a list of whole numbers from 0 on.")
    return tuple(dict.fromkeys(seeds))


def _only(entry: Any, known: set[str], where: str) -> None:
    if not isinstance(entry, Mapping):
        raise DataError(f"{where} is {entry!r}, not a table of settings; write it as `[[runs]]` or `[base]`.")
    if unknown := sorted(entry.keys() - known):
        raise DataError(f"{where} has the unknown field {unknown[0]}; known ones: {', '.join(sorted(known))}.")
