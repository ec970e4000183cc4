"""The folder whose encoders a model reads, and what tells whether encoders have changed."""

from __future__ import annotations

from pathlib import Path

from avem.errors import MissingFileError
from avem.files import file_stamps
from avem.locate import locate_model
from avem.tools.ask.settings import AskOptions
from avem.train.checkpoints.load import base_of, finished, read_settings
from avem.train.model.saving import ADAPTER_TYPE

PAIR_FAMILIES = ("avere", "generic")
"""Families that read the streams of `--video-encoder` and `--audio-encoder`; all others bring their encoders."""


def encoder_marks(options: AskOptions, family: str) -> dict[str, list[tuple[str, int, int]]]:
    """What tells that encoders are the same as before, without reading them.

    Returns:
        Each encoder by its name, with its files: name, size in bytes, time of change in ns. None for a hub id.
    """
    pair = [options.video_encoder, options.audio_encoder]
    return {
        name: file_stamps(Path(name)) for name in (pair if family in PAIR_FAMILIES else [encoders_of(options.model)])
    }


def encoders_of(model: str) -> str:
    """The folder whose encoders a model reads: the one at the bottom of the runs that it was trained in.

    Raises:
        MissingFileError: A base is not there.
    """
    folder = finished(locate_model(model, "--model"))
    for _ in range(100):  # as many runs on top of each other; a circle of them would never end
        settings = read_settings(folder)
        if settings.get("model_type") != ADAPTER_TYPE:
            return str(folder)
        folder = finished(locate_model(base_of(folder, settings), "--model"))
    raise MissingFileError(f"{model} is a run on a run on a run, without a base; give a model's folder.")
