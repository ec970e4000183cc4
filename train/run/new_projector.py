"""A fresh audio projector for a base that reads pictures alone, such as Video-LLaVA, where AVERE's base starts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from avem.errors import SettingError
from avem.train.data.streams import ClipStreams
from avem.train.model.audiovisual import AudiovisualLM
from avem.train.settings.config import RunConfig, SupervisedConfig

if TYPE_CHECKING:
    from avem.cache import FeatureStore
    from avem.train.families.base import FamilyModel

logger = logging.getLogger(__name__)


def add_missing_projector(model: FamilyModel, store: FeatureStore, config: RunConfig) -> None:
    """Add the audio projector that the settings name to a model without one; any other model stays as it is.

    Args:
        model: As loaded, or a skeleton; it is changed.
        store: Its audio features say how wide the projector's input is.
        config: Settings; only supervised training adds a projector.

    Raises:
        SettingError: The store holds no audio features, or the model's family has no projectors.
        FingerprintError: The store holds several streams of audio that could be meant.
    """
    kind = config.added_audio_projector if isinstance(config, SupervisedConfig) else "none"
    if kind == "none" or model.takes("audio"):
        return
    if not isinstance(model, AudiovisualLM):
        raise SettingError(f"A model of the family {model.family} takes no new audio projector; leave it out.")
    found = ClipStreams(store, model.streams, ()).identity().get("audio")
    if found is None:
        raise SettingError(
            f"The store {store.location.url} holds no audio features for a new audio projector; run `avem extract` on "
            "clips with sound."
        )
    model.add_audio_projector(kind, int(found["row_shape"][-1]), seed=config.seed)
    logger.info("The model has no audio projector: training a new one (%s)", kind)
