"""`avem cache`: what a store holds, whether it is sound, its negatives and its constant scores."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from avem.commands.logps import logps

cache_app = typer.Typer(no_args_is_help=True, help="Look at a feature store, check it, and mine negatives in it.")
cache_app.command()(logps)

StorePath = Annotated[Path, typer.Option("--cache", help="The feature store.")]


class Recipe(StrEnum):
    """How negatives are chosen."""

    HARD = "hard"
    RANDOM_EMOTION = "random-emotion"
    RANDOM_CLIP = "random-clip"


@cache_app.command()
def negatives(
    cache: StorePath = Path("./cache"),
    recipe: Annotated[Recipe, typer.Option(help="Nearest of another emotion, any of another emotion, any clip.")] = (
        Recipe.HARD
    ),
    k: Annotated[int, typer.Option("--k", help="Negatives a clip.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Of the random recipes.")] = 0,
) -> None:
    """Mine clips of other emotions with FAISS, per modality and for both together."""
    from avem.cache import FeatureStore, mine_negatives

    for report in mine_negatives(FeatureStore.open(cache), recipe.value, k, seed):
        missing = ", ".join(f"{count} of {kind}" for kind, count in report.without.items())
        note = f"; none for {missing}" if missing else ""
        typer.echo(f"{report.modality}: {report.complete} of {report.clips} clips have {k} negatives{note}.")


@cache_app.command()
def verify(cache: StorePath = Path("./cache")) -> None:
    """Read every row and compare its checksum; exit status 2 if any is damaged."""
    from avem.cache import FeatureStore
    from avem.errors import StoreError

    damaged = FeatureStore.open(cache).verify()
    for row in damaged:
        typer.echo(f"row {row.row} ({row.clip_id}): {row.problem}")
    if damaged:
        raise StoreError(f"{len(damaged)} rows of {cache} are damaged.")
    typer.echo(f"Every row of {cache} is sound.")


@cache_app.command()
def info(cache: StorePath = Path("./cache")) -> None:
    """Show what a store holds: clips, streams, sizes, fingerprints, failures and negatives."""
    from avem.cache import FeatureStore, store_info
    from avem.commands.tables import show_store

    show_store(store_info(FeatureStore.open(cache)))


@cache_app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Where the HDF5 files go.")], cache: StorePath = Path("./cache")
) -> None:
    """Write the store as HDF5, one file a stream."""
    from avem.cache import FeatureStore
    from avem.cache.exchange import export_hdf5

    for path in export_hdf5(FeatureStore.open(cache), folder):
        typer.echo(path)


@cache_app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="HDF5 files as `avem cache export` writes them.")],
    cache: StorePath = Path("./cache"),
) -> None:
    """Make a store of HDF5 files."""
    from avem.cache.exchange import import_hdf5

    typer.echo(f"{len(import_hdf5(files, cache))} clips are in {cache}.")
