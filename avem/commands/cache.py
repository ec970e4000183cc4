"""`avem cache`: what a store holds, whether it is sound, its negatives and its constant scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from avem.commands.cache_list import list_clips
from avem.commands.logps import logps
from avem.commands.negatives import negatives
from avem.errors import PartialFailure, SettingError, StoreError
from avem.extract.defaults import DEFAULT_AUDIO_ENCODER, DEFAULT_VIDEO_ENCODER
from avem.guards.inputs import need_file, need_path, need_store
from avem.guards.output_kinds import EXPORT, STORE
from avem.guards.outputs import folder_target
from avem.text.terminal import show

if TYPE_CHECKING:
    from avem.cache.records import Kind
    from avem.extract import ExtractOptions

cache_app = typer.Typer(no_args_is_help=True, help="Look at a feature store, check it, and mine negatives in it.")
cache_app.command()(logps)
cache_app.command()(negatives)
cache_app.command("list")(list_clips)

StorePath = Annotated[Path, typer.Option("--cache", help="The feature store.")]


@cache_app.command()
def verify(cache: StorePath = Path("./cache")) -> None:
    """Read everything in the store and compare it with its checksums; exit status 2 if anything is damaged."""
    need_store(cache)
    from avem.cache import FeatureStore

    store = FeatureStore.open(cache, check=False)
    files, rows = store.damaged_files(), store.verify()
    for file in files:
        show(file)
    for row in rows:
        show(f"row {row.row} ({row.clip_id}): {row.problem}")
    if files:
        raise StoreError(
            f"{len(files)} files and {len(rows)} rows of {cache} are damaged; what to do is said with each file, and "
            "`avem cache repair` does what it can."
        )
    if rows:
        raise StoreError(f"{len(rows)} rows of {cache} are damaged; `avem cache repair` extracts them again.")
    show(f"Every row and every other file of {cache} is sound.")


@cache_app.command()
def repair(
    cache: StorePath = Path("./cache"),
    root: Annotated[Path | None, typer.Option(help="Where the clips are now, if they were moved.")] = None,
    video_encoder: Annotated[str, typer.Option(help="The one that made the store.")] = DEFAULT_VIDEO_ENCODER,
    audio_encoder: Annotated[str, typer.Option(help="The one that made the store.")] = DEFAULT_AUDIO_ENCODER,
    dataset: Annotated[str | None, typer.Option(help="Layout to read, if it is not recognised.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.")] = "auto",
    precision: Annotated[str, typer.Option(help="What the encoders compute in.")] = "auto",
    redecode: Annotated[
        bool, typer.Option("--redecode", help="Decode every clip again that an older avem decoded by decord's index.")
    ] = False,
) -> None:
    """Verify the store and extract its damaged rows, and only these, again; exit status 3 if some are left."""
    need_store(cache)
    need_path(root, "--root", "folder")
    from avem.extract import ExtractOptions
    from avem.extract.redecode import is_begun
    from avem.extract.repair import repair as run

    options = ExtractOptions(video_encoder, audio_encoder, dataset=dataset, device=device, precision=precision)
    if redecode or is_begun(cache):
        _redecode(cache, options, root)
        return
    report = run(cache, options, root)
    show(f"{len(report.damaged)} rows were damaged; {len(report.repaired)} clips are extracted again.")
    for name in report.restored:
        show(f"written again: {name}")
    for left in [*(f"{clip_id}: {reason}" for clip_id, reason in report.left.items()), *map(str, report.files_left)]:
        show(f"left as it is: {left}")
    if report.left:
        raise PartialFailure(f"{len(report.left)} rows of {cache} could not be repaired.")
    if report.files_left:
        raise PartialFailure(f"{len(report.files_left)} files of {cache} are still damaged; what to do is said above.")


def _redecode(cache: Path, options: ExtractOptions, root: Path | None) -> None:
    """Make the features new that an older avem made, and say what came of it."""
    from avem.extract.redecode import redecode

    report = redecode(cache, options, root)
    if not report.redecoded:
        typer.echo(f"Every clip of {cache} was decoded by {options.decoder} already.")
        return
    done = ", ".join(f"{count} {kind}" for kind, count in report.redecoded.items())
    typer.echo(f"Decoded and encoded again: {done}. Mine negatives again with `avem cache negatives`.")
    for clip_id, reason in report.left.items():
        typer.echo(f"no features: {clip_id}: {reason}")
    if report.left:
        raise PartialFailure(f"{len(report.left)} clips of {cache} can't be decoded; the manifest says why.")


@cache_app.command()
def info(cache: StorePath = Path("./cache")) -> None:
    """Show what a store holds: clips, streams, sizes, fingerprints, failures and negatives."""
    need_store(cache)
    from avem.cache import FeatureStore, store_info
    from avem.commands.tables import show_store

    show_store(store_info(FeatureStore.open(cache)))


@cache_app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Where the HDF5 files go.")], cache: StorePath = Path("./cache")
) -> None:
    """Write the store as HDF5, one file a stream."""
    need_store(cache)
    folder_target(folder, EXPORT, reads=[cache], option="FOLDER")

    from avem.cache import FeatureStore
    from avem.cache.exchange.hdf5 import export_hdf5

    for path in export_hdf5(FeatureStore.open(cache), folder):
        show(path)


@cache_app.command("import")
def import_(
    files: Annotated[list[Path] | None, typer.Argument(help="HDF5 files as `avem cache export` writes them.")] = None,
    cache: StorePath = Path("./cache"),
    video_npy: Annotated[Path | None, typer.Option(help="Folder with one .npy of video features per clip.")] = None,
    audio_npy: Annotated[Path | None, typer.Option(help="Folder with one .npy of audio features per clip.")] = None,
    labels: Annotated[Path | None, typer.Option(help="CSV (clip_id, emotion) or `<clip> <frames> <emotion>`.")] = None,
    dataset: Annotated[str, typer.Option(help="What the .npy clips are called together.")] = "npy",
    dtype: Annotated[str, typer.Option(help="How .npy features are kept: float16, bfloat16 or int8.")] = "float16",
) -> None:
    """Make a store of HDF5 files, or of folders with one .npy per clip."""
    given = {"video": video_npy, "audio": audio_npy}
    folders = {kind: folder for kind, folder in given.items() if folder is not None}
    if bool(files) == bool(folders):
        raise SettingError("Give either HDF5 files or folders with --video-npy and --audio-npy.")
    for file in files or ():
        need_file(file, "FILES")
    need_file(labels, "--labels")
    for kind, npy in folders.items():
        need_path(npy, f"--{kind}-npy", "folder of .npy files")
    folder_target(cache, STORE, reads=[*(files or ()), labels], roots=folders.values(), option="--cache")

    from avem.cache.exchange.hdf5 import import_hdf5
    from avem.cache.exchange.npy import import_npy

    if files:
        store = import_hdf5(files, cache)
    else:
        store = import_npy(cast("dict[Kind, Path]", folders), cache, labels=labels, dataset=dataset, dtype=dtype)
    show(f"{len(store)} clips are in {cache}.")
