"""`avem cache list`: the clips of a store, with filters."""

from __future__ import annotations

import csv
import io
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from avem.commands.options import ALL
from avem.guards.inputs import need_store
from avem.text.escaping import csv_cell
from avem.text.tables import Table
from avem.text.terminal import show, show_block, show_table


class Form(StrEnum):
    """Formats of the list."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def list_clips(
    cache: Annotated[Path, typer.Option("--cache", help="The feature store.")] = Path("./cache"),
    label: Annotated[
        str | None,
        typer.Option(
            help="Only clips with this emotion or this label of the dataset; none: without a label.", show_default=ALL
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only clips of this split.", show_default=ALL)] = None,
    status: Annotated[
        str | None, typer.Option(help="Only clips that are ok, failed or pending.", show_default=ALL)
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Only clips of this dataset.", show_default=ALL)] = None,
    text: Annotated[
        str | None, typer.Option(help="Only clips with this text in their id, path or label.", show_default=ALL)
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="How to print the list.")] = Form.TABLE,
) -> None:
    """List the clips of a store: id, label, split and status."""
    need_store(cache)
    from avem.cache import FeatureStore
    from avem.cache.listing import ListFilter
    from avem.cache.listing import list_clips as select

    wanted = ListFilter(label=label, split=split, status=status, dataset=dataset, text=text)
    store = FeatureStore.open(cache)
    lines = list(select(store, wanted))
    if form is Form.TABLE:
        rows = [(line.clip_id, line.label or _raw(line.raw_label), line.split, line.status) for line in lines]
        show_table(Table.of(("clip", "label", "split", "status"), rows))
        show(f"{len(lines)} of {len(store)} clips.")
    elif form is Form.JSON:
        show_block(json.dumps([line.row() for line in lines], indent=1))
    else:
        names = ["clip_id", "label", "raw_label", "split", "dataset", "source", "path"]
        names += [f"{store.stream(name).column}_status" for name in store.streams]
        sheet = io.StringIO()
        writer = csv.DictWriter(sheet, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: csv_cell(cell) for name, cell in line.row().items()} for line in lines)
        show_block(sheet.getvalue(), nl=False)


def _raw(label: str) -> str:
    """A label other than the seven emotions, as the table shows it."""
    return f"({label})" if label else ""
