"""What an engine is, and opening the one that the options name.

An engine loads the encoders and fills the store's pending shards. All devices share one plan: each starts at its own
part of the pending shards and claims those that no other has, so any number of them, on any number of machines, write
the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from avem.cache import StreamSpec
from avem.extract.encoders.source import Source
from avem.extract.engine.device import Job
from avem.extract.engine.local import LocalEngine
from avem.extract.options import ExtractOptions, ExtractReport


class Engine(AbstractContextManager["Engine"], Protocol):
    """What the pipeline needs of an engine; leaving its context frees the devices."""

    specs: dict[str, StreamSpec]
    """The streams that its encoders make."""

    def fill(self, job: Job, report: ExtractReport) -> None:
        """Fill the pending shards and enter what was done into the report."""
        ...


def open_engine(options: ExtractOptions, clips: int, sources: Mapping[str, Source] | None = None) -> Engine:
    """Start the engine that the options name.

    Args:
        options: Which engine, and what it needs.
        clips: How many are to be decoded at most.
        sources: The encoders, from `find_sources`, where they were looked for already.

    Raises:
        AvemError: It, a device or an encoder can't be used; the message names the option.
    """
    if options.engine == "ray":
        from avem.extract.engine.ray import RayEngine

        return RayEngine(options)
    return LocalEngine(options, clips, sources)
