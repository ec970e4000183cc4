"""`avem cache`: inspect, check and repair a feature store; mine negatives; compute constant scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avem.commands.cache.clips import list_clips
from avem.commands.cache.logps import logps
from avem.commands.cache.negatives import negatives
from avem.commands.cache.subtitles import subtitles
from avem.commands.options import ALL, NONE, Device, ReadCacheOption, StorePath
from avem.errors import PartialFailure, SettingError, StoreError
from avem.extract.defaults import DEFAULT_AUDIO_ENCODER, DEFAULT_VIDEO_ENCODER
from avem.guards.inputs import need_file, need_path, need_store
from avem.guards.output_kinds import EXPORT, STORE
from avem.guards.outputs import folder_target
from avem.text.sizes import size_text
from avem.text.terminal import show

if TYPE_CHECKING:
    from avem.cache.remote.transfer import TransferReport
    from avem.extract import ExtractOptions

cache_app = typer.Typer(no_args_is_help=True, help="Inspect, check and repair a feature store, and mine negatives.")
cache_app.command()(logps)
cache_app.command()(negatives)
cache_app.command()(subtitles)
cache_app.command("list")(list_clips)


@cache_app.command()
def verify(
    cache: StorePath = Path("./cache"),
    sample: Annotated[
        str | None,
        typer.Option(
            help="Check a random sample of each stream: a number of rows, or a share such as 1%.", show_default=ALL
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 0,
) -> None:
    """Compare the whole store with its checksums.

    Exit status 2 if anything is damaged.
    """
    need_store(cache)
    from avem.cache import FeatureStore
    from avem.cache.sample import Sample

    chosen = None if sample is None else Sample.parse(sample, seed)

    store = FeatureStore.open(cache, check=False)
    files, rows = store.damaged_files(quick=chosen is not None), store.verify(chosen)
    for file in files:
        show(file)
    for row in rows:
        show(f"row {row.row} ({row.clip_id}): {row.problem}")
    if files:
        raise StoreError(
            f"{len(files)} files and {len(rows)} rows of {cache} are damaged; see above what to do for each "
            "file; `avem cache repair` repairs what it can."
        )
    if rows:
        raise StoreError(f"{len(rows)} rows of {cache} are damaged; `avem cache repair` extracts them again.")
    if chosen is None:
        show(f"Every row and every other file of {cache} is intact.")
        return
    from avem.cache.verify import sampled_rows

    counts = ", ".join(f"{count} {kind} rows" for kind, count in sampled_rows(store, chosen).items())
    show(
        f"A sample of {cache} is intact: {counts or 'no rows'} (seed {seed}), the manifest and the metadata. "
        "`avem cache verify` without --sample checks the rest."
    )


@cache_app.command()
def repair(
    cache: StorePath = Path("./cache"),
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the clips, or the one around it, if they were moved.",
            show_default="as recorded in the store",
        ),
    ] = None,
    video_encoder: Annotated[str, typer.Option(help="Video encoder that made the store.")] = DEFAULT_VIDEO_ENCODER,
    audio_encoder: Annotated[str, typer.Option(help="Audio encoder that made the store.")] = DEFAULT_AUDIO_ENCODER,
    model: Annotated[
        str | None,
        typer.Option("--for", help="Model whose own encoders made streams of the store.", show_default=NONE),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Name of the dataset's layout, if it is not recognised.", show_default="recognised"),
    ] = None,
    device: Device = "auto",
    precision: Annotated[
        str, typer.Option(help="Number format the encoders compute in: auto, float32, float16 or bfloat16.")
    ] = "auto",
    redecode: Annotated[
        bool,
        typer.Option("--redecode", help="Also decode the clips again that an older avem decoded by decord's index."),
    ] = False,
) -> None:
    """Verify the store and extract its damaged rows again.

    Exit status 3 if some could not be repaired.
    """
    need_store(cache)
    need_path(root, "--root", "folder")
    from avem.extract import ExtractOptions
    from avem.extract.redecode import is_begun
    from avem.extract.repair import repair as run

    options = ExtractOptions(
        video_encoder, audio_encoder, model=model, dataset=dataset, device=device, precision=precision
    )
    if redecode or is_begun(cache):
        _redecode(cache, options, root)
        return
    report = run(cache, options, root)
    show(f"{len(report.damaged)} rows were damaged; {len(report.repaired)} clips were extracted again.")
    for name in report.restored:
        show(f"written again: {name}")
    for left in [*(f"{clip_id}: {reason}" for clip_id, reason in report.left.items()), *map(str, report.files_left)]:
        show(f"not repaired: {left}")
    if report.left:
        raise PartialFailure(f"{len(report.left)} rows of {cache} could not be repaired.")
    if report.files_left:
        raise PartialFailure(f"{len(report.files_left)} files of {cache} are still damaged; see above what to do.")


def _redecode(cache: Path, options: ExtractOptions, root: Path | None) -> None:
    """Decode and encode the clips of an older avem again, and show the outcome."""
    from avem.extract.redecode import redecode

    report = redecode(cache, options, root)
    if not report.redecoded:
        typer.echo(f"Every clip of {cache} was already decoded by {options.decoder}.")
        return
    done = ", ".join(f"{count} {kind}" for kind, count in report.redecoded.items())
    typer.echo(f"Decoded and encoded again: {done}. Mine negatives again with `avem cache negatives`.")
    for clip_id, reason in report.left.items():
        typer.echo(f"no features: {clip_id}: {reason}")
    if report.left:
        raise PartialFailure(f"{len(report.left)} clips of {cache} can't be decoded; the manifest gives the reasons.")


@cache_app.command()
def info(cache: StorePath = Path("./cache")) -> None:
    """Show the contents of a store.

    These are its clips, streams, sizes, fingerprints, failures and negatives.
    """
    need_store(cache)
    from avem.cache import FeatureStore, store_info
    from avem.commands.tables import show_store

    show_store(store_info(FeatureStore.open(cache)))


@cache_app.command()
def upgrade(cache: StorePath = Path("./cache")) -> None:
    """Bring a store of an older format to the newest, in place.

    Reading does not need it. Only streams that the old format has no room for do.
    """
    need_store(cache)
    from avem.cache import FeatureStore
    from avem.cache.upgrade import upgrade as run

    before, now = run(cache), FeatureStore.open(cache).format_version
    show(f"{cache} was of format {before} and is of format {now}." if before < now else f"{cache} is of format {now}.")


@cache_app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder for the HDF5 files.")],
    cache: StorePath = Path("./cache"),
    read_cache: ReadCacheOption = None,
) -> None:
    """Export the store as HDF5, one file per stream."""
    need_store(cache)
    folder_target(folder, EXPORT, reads=[cache], option="FOLDER")

    from avem.cache import FeatureStore
    from avem.cache.exchange.hdf5 import export_hdf5

    for path in export_hdf5(FeatureStore.open(cache), folder):
        show(path)


@cache_app.command("import")
def import_(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="HDF5 files as `avem cache export` writes them.", show_default=NONE),
    ] = None,
    cache: StorePath = Path("./cache"),
    video_npy: Annotated[
        Path | None, typer.Option(help="Folder with one .npy file of video features per clip.", show_default=NONE)
    ] = None,
    audio_npy: Annotated[
        Path | None, typer.Option(help="Folder with one .npy file of audio features per clip.", show_default=NONE)
    ] = None,
    stream: Annotated[
        list[str] | None,
        typer.Option(
            help="A stream and its folder with one .npy file per clip, face/mae=FOLDER; may be repeated.",
            show_default=NONE,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Labels: CSV (clip_id, emotion), or lines of `<clip> <frames> <emotion>`.", show_default=NONE
        ),
    ] = None,
    dataset: Annotated[str, typer.Option(help="Dataset name to give the .npy clips.")] = "npy",
    dtype: Annotated[
        str, typer.Option(help="Number format of the stored features: float16, bfloat16 or int8.")
    ] = "float16",
) -> None:
    """Make a store from HDF5 or .npy files.

    Give HDF5 files, or folders with one .npy file per clip.
    """
    given = {"video": video_npy, "audio": audio_npy}
    folders = {kind: folder for kind, folder in given.items() if folder is not None} | _stream_folders(stream or [])
    if bool(files) == bool(folders):
        raise SettingError("Give either HDF5 files or folders with --stream, --video-npy and --audio-npy.")
    for file in files or ():
        need_file(file, "FILES")
    need_file(labels, "--labels")
    for kind, npy in folders.items():
        need_path(npy, "--stream" if "/" in kind else f"--{kind}-npy", "folder of .npy files")
    folder_target(cache, STORE, reads=[*(files or ()), labels], roots=folders.values(), option="--cache")

    from avem.cache import store_info
    from avem.cache.exchange.hdf5 import import_hdf5
    from avem.cache.exchange.npy import import_npy

    if files:
        store = import_hdf5(files, cache)
    else:
        store = import_npy(folders, cache, labels=labels, dataset=dataset, dtype=dtype)
    show(f"{len(store)} clips are in {cache}.")
    slots = {name.partition("/")[0] for name in folders}
    if failures := [item for item in store_info(store).failures if item.kind.partition("/")[0] in slots]:
        raise PartialFailure(
            f"{len(failures)} .npy files can't be used, for example: {failures[0].reason}. "
            f"`avem cache list --cache {cache} --status failed` names them all. Fix them and run this command again."
        )


def _stream_folders(given: list[str]) -> dict[str, Path]:
    """What `--stream` names: a stream to its folder.

    Raises:
        SettingError: A value is not `SLOT/NAME=FOLDER`, or names a stream twice.
    """
    folders: dict[str, Path] = {}
    for value in given:
        name, equals, folder = value.partition("=")
        if not equals or not folder or name.count("/") != 1 or not all(name.split("/")):
            raise SettingError(f"--stream takes SLOT/NAME=FOLDER, such as face/mae=./mae_340_UTT, not {value!r}.")
        if name in folders:
            raise SettingError(f"--stream names {name} twice; give one folder for each stream.")
        folders[name] = Path(folder)
    return folders


@cache_app.command()
def push(
    store: Annotated[Path, typer.Argument(help="The feature store.")],
    url: Annotated[str, typer.Argument(help="Where to, such as s3://bucket/cache.")],
) -> None:
    """Copy a store to a URL.

    Copies only what differs. Run the same command again to resume a copy that was stopped.
    """
    need_store(store)
    _need_url(url)
    from avem.cache.remote.push import push as run

    _show(run(store, url), url)


@cache_app.command()
def pull(
    url: Annotated[str, typer.Argument(help="Where from, such as s3://bucket/cache.")],
    store: Annotated[Path, typer.Argument(help="Folder for the feature store.")],
) -> None:
    """Copy a store from a URL to a folder.

    Copies only what differs. Run the same command again to resume a copy that was stopped.
    """
    _need_url(url)
    from avem.cache.remote.pull import pull as run

    _show(run(url, store), str(store))


def _need_url(url: str) -> None:
    if "://" not in url:
        raise SettingError(f"{url} is not a URL; give one such as s3://bucket/cache.")


def _show(report: TransferReport, target: str) -> None:
    removed = f", {report.removed} removed" if report.removed else ""
    show(
        f"{target}: {report.copied} files copied ({size_text(report.copied_bytes)}), {report.unchanged} were there "
        f"already{removed}."
    )
