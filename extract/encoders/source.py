"""An encoder of a run before it is loaded: what it makes, where its files are, and how large its features will be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from avem.cache import StreamSpec
    from avem.extract.encoders.base import StreamEncoder
    from avem.extract.sizes import Tokens

Load = Callable[[str, "torch.dtype"], "StreamEncoder"]
"""Device and dtype to an encoder."""


@dataclass(frozen=True, slots=True)
class Source:
    """One encoder of a run, before it is loaded."""

    slot: str
    name: str
    """Of the encoder: the second half of the stream's name."""
    path: Path
    """Its folder or file on this machine."""
    load: Load
    settings: dict[str, Any] = field(default_factory=dict)
    """What else decides its features, as JSON: frames a second, the pixel budget."""
    dtype: str = "float16"
    """How features are kept unless `--dtype` says otherwise."""
    gpu_precision: str = "float16"
    """What it computes in on a GPU unless `--precision` says otherwise; float32 elsewhere."""
    rows_per_shard: int = 64
    """Clips written at once, at most; fewer where a clip's features are large."""
    describe: Callable[[str], StreamSpec] | None = None
    """How features are kept to the stream, without its fingerprint, from the configuration alone; None where the
    encoder has to be loaded to know it."""
    tokens: Tokens | None = None
    """How many tokens a clip has, of rows whose length differs by clip; None where all are alike."""
    smaller: Mapping[str, Tokens] = field(default_factory=dict)
    """The same with smaller settings, by what to give for them."""
