"""What to give instead of encoders that are not there: a store that holds the clip, or encoders that are here."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from avem.cache import FeatureStore
from avem.errors import AvemError
from avem.extract.encoders.pair_sizes import describe_pair
from avem.extract.encoders.registry import load_audio_encoder, load_video_encoder
from avem.files import json_sha256
from avem.guards.disk import disk_reason
from avem.text.names import shown_path
from avem.tools.ask.held import HeldClips
from avem.tools.ask.inputs import AskedClip

if TYPE_CHECKING:
    from avem.tools.ask.settings import AskOptions
    from avem.tools.ask.worth.history import History
    from avem.train.families.base import FamilyModel

logger = logging.getLogger(__name__)

USUAL_STORE = Path("cache")
"""Where `avem extract` writes unless it is told otherwise."""
DEPTH = 3
"""Folders below a place in which encoders are looked for."""
MOST_FOLDERS = 2000
"""Folders that are looked at in all."""
MOST_TRIED = 4
"""Encoders of each kind that are loaded to compare them."""
SLOTS = ("video", "audio")


@dataclass(frozen=True, slots=True)
class Remedies:
    """What would work instead; empty texts where there is nothing of the kind."""

    store: str = ""
    """A store that holds the clip as the model reads it."""
    encoders: tuple[str, ...] = ()
    """Folders of the two encoders that the model was trained on, video first."""

    def __bool__(self) -> bool:
        return bool(self.store or self.encoders)

    @property
    def advice(self) -> str:
        """What to give, as the end of a sentence."""
        options = []
        if self.store:
            options.append(f"give --cache {shlex.quote(self.store)}, which holds this clip's features")
        if self.encoders:
            video, audio = map(shlex.quote, self.encoders)
            which = f"--video-encoder {video} --audio-encoder {audio}, which the model was trained on"
            options.append(which if options else f"give {which}")
        return ", or ".join(options)


def find_remedies(history: History, path: Path, model: FamilyModel, options: AskOptions) -> Remedies:
    """Look on this machine for what the model can use on a clip.

    Args:
        history: What the model was trained on.
        path: The clip.
        model: The model.
        options: How it is asked.
    """
    stores = known_stores(history, options)
    clip = AskedClip(path.name, path)
    holding = [name for name, store in stores.items() if _holds(store, clip, model, options)]
    places = [*(each.resolve().parent for each in stores), Path().resolve()]
    encoders = _encoders(dict.fromkeys(places), model)
    return Remedies(shown_path(holding[0]) if holding else "", tuple(map(shown_path, encoders)))


def known_stores(history: History, options: AskOptions) -> dict[Path, FeatureStore]:
    """Stores in which a clip may be that were not named, by their folders.

    Those that an `ask.json` names come first, then those that the model was trained from, then `./cache`.

    Args:
        history: What the model was trained on.
        options: How it is asked.
    """
    stores: dict[Path, FeatureStore] = {}
    for path in (*options.stores, *history.stores, USUAL_STORE):
        known = not path.is_dir() or any(each.samefile(path) for each in stores)
        if not known and (store := _opened(path)) is not None:
            stores[path] = store
    return stores


def _opened(path: Path) -> FeatureStore | None:
    try:
        return FeatureStore.open(shown_path(path))
    except (AvemError, OSError) as error:
        logger.debug("%s can't be read: %s", path, error)
        return None


def _holds(store: FeatureStore, clip: AskedClip, model: FamilyModel, options: AskOptions) -> bool:
    try:
        return bool(HeldClips(store, model, options.model, windows=options.windows).rows(clip))
    except AvemError as error:
        logger.debug("%s is not for this model: %s", store.location.url, error)
        return False


def _encoders(places: Iterable[Path], model: FamilyModel) -> tuple[Path, ...]:
    """The model's two encoders, video first; none unless both are found."""
    wanted = {slot: model.expected_digest(slot) for slot in SLOTS}
    if not all(wanted.values()):
        return ()
    folders = list(dict.fromkeys(islice(_model_folders(places), MOST_FOLDERS)))
    found = []
    for slot in SLOTS:
        fitting = [folder for folder in folders if describe_pair(slot, "", folder) is not None]
        same = [folder for folder in fitting[:MOST_TRIED] if _digest(slot, folder) == wanted[slot]]
        if not same:
            return ()
        found.append(same[0])
    return tuple(found)


def _digest(slot: str, folder: Path) -> str:
    """Digest of the features that an encoder makes; empty where it can't be loaded."""
    try:
        encoder = load_video_encoder(folder) if slot == "video" else load_audio_encoder(folder)
    except (AvemError, OSError) as error:
        logger.debug("%s is no encoder: %s", folder, error)
        return ""
    return json_sha256(encoder.fingerprint())


def _model_folders(places: Iterable[Path]) -> Iterator[Path]:
    """Folders with a `config.json`, the nearest first; hidden ones and stores are left out."""
    seen = 0
    waiting = [(place, 0) for place in places]
    while waiting and seen < MOST_FOLDERS:
        folder, depth = waiting.pop(0)
        seen += 1
        if (folder / "config.json").is_file():
            yield folder
        if depth == DEPTH or (folder / "zarr.json").is_file():
            continue
        try:
            with os.scandir(folder) as entries:
                below = sorted(each.name for each in entries if each.is_dir(follow_symlinks=False))
        except OSError as error:
            logger.debug("%s can't be read: %s", folder, disk_reason(error))
            continue
        waiting += [(folder / name, depth + 1) for name in below if not name.startswith(".")]
