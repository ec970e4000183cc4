"""What earlier runs did, one JSON object a line in the store's ledger: settings, time account, outcome."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from avem.cache.disk.layout import LEDGER
from avem.cache.disk.locks import unswept
from avem.errors import DataError
from avem.extract.encoders.source import Source
from avem.extract.options import AUTO, RUNS, ExtractOptions, ExtractReport
from avem.files import json_sha256, write_atomic
from avem.reading import parse_json
from avem.sealed.checksums import sealed_lines, unseal

logger = logging.getLogger(__name__)


def finished_before(store: Path, options: ExtractOptions, sources: Mapping[str, Source]) -> bool:
    """Whether an earlier run used these very encoder files, so that their weights need not be loaded to compare them.

    Only true where a run's record says so; the caller makes sure that nothing is left to encode.
    """
    wanted = _identity(options, sources)
    made = {kind: identity for run in _runs(store) for kind, identity in run.get("encoders", {}).items()}
    return bool(wanted) and wanted.items() <= made.items()


def record_run(store: Path, options: ExtractOptions, sources: Mapping[str, Source], report: ExtractReport) -> None:
    """Add a run that encoded something to the record."""
    entry = {
        "encoders": _identity(options, sources),
        "clips": report.clips,
        "encoded": report.encoded,
        "failed": report.failed_clips,
        "decoder": options.decoder,
        "engine": options.engine,
        "devices": report.devices,
        "workers": report.workers,
        "clips_per_s": round(report.clips_per_s, 3),
        "limiting_stage": report.limiting_stage,
        "seconds": {name: round(value, 3) for name, value in asdict(report.timings).items()},
    }
    with unswept(store, exclusive=True):
        write_atomic(store / LEDGER / RUNS, sealed_lines([*_runs(store), entry]))


def _runs(store: Path) -> list[dict[str, Any]]:
    path = store / LEDGER / RUNS
    if not path.is_file():
        return []
    runs = [_run(line, str(path)) for line in path.read_bytes().splitlines() if line.strip()]
    return [run for run in runs if run is not None]


def _run(line: bytes, where: str) -> dict[str, Any] | None:
    """An earlier run, or None where its record is damaged: encoders are then loaded to be compared."""
    try:
        return unseal(parse_json(line, where, dict, surrogates=True), where)
    except DataError:
        logger.warning("%s holds a damaged record; it is left out.", where)
        return None


def _identity(options: ExtractOptions, sources: Mapping[str, Source]) -> dict[str, str]:
    """A digest per stream of everything on disk that its encoder would be made of, and of how it would run."""
    identity: dict[str, str] = {}
    for slot, source in sources.items():
        path = source.path
        files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
        stamps = [[item.name, item.stat().st_size, item.stat().st_mtime_ns] for item in files]
        dtype = source.dtype if options.dtype == AUTO else options.dtype
        how: list[Any] = [options.engine, options.device, options.precision, dtype, options.decoder]
        how += [source.settings] if source.settings else []
        identity[slot if options.model is None else f"{slot}/{source.name}"] = json_sha256(
            [str(path.resolve()), stamps, how]
        )
    return identity
