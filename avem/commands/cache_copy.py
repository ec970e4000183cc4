"""`avem cache push` and `avem cache pull`: copy a store to a URL and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avem.errors import SettingError
from avem.guards.inputs import need_store
from avem.text.terminal import show

if TYPE_CHECKING:
    from avem.cache.remote.transfer import TransferReport


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
        f"{target}: {report.copied} files copied ({report.copied_bytes / 1e6:.1f} MB), {report.unchanged} were there "
        f"already{removed}."
    )
