"""The model card that goes with saved weights: what they are, where they come from, what they are for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avem.train.families.base import FamilyModel
    from avem.train.model.audiovisual import AudiovisualLM

CARD = """---
library_name: avem
license: {licence}
{base}tags: [audiovisual, emotion, multimodal]
---
# Audiovisual language model

A {language_model} with projectors for video ({video_projector}, {video_hidden_size} channels, {video_frames} frames)
and audio ({audio_projector}, {audio_hidden_size} channels) features, prompt format `{prompt_format}`.
Load it with `avem.train.load_model`; the language model alone is the Hugging Face folder `language_model/`.

## Features it expects

| | fingerprint |
|---|---|
| video | `{video_fingerprint}` |
| audio | `{audio_fingerprint}` |

## Provenance

{start}```json
{provenance}
```

{use}"""

USE = """## Use

For research on how models explain emotion in video and sound. It can be wrong, and it describes how someone appears,
not what they feel: do not use it to judge people. The licence of the base model and of the training data applies too.
"""

FAMILY_CARD = """---
library_name: avem
license: {licence}
{base}tags: [audiovisual, emotion, multimodal]
---
# {family}

A {language_model} that reads {streams} from a feature store. Load it with `avem.train.load_model`.

## Provenance

{start}```json
{provenance}
```

{use}"""


def model_card(model: AudiovisualLM, licence: str, provenance: dict[str, Any]) -> str:
    """The card's text in Markdown with the hub's metadata block.

    Args:
        model: An `AudiovisualLM`.
        licence: A Hugging Face licence identifier.
        provenance: JSON values about data, settings and seeds.
    """
    config = model.config.to_json()
    digests = {name: config[name] or "unknown" for name in ("video_fingerprint", "audio_fingerprint")}
    return CARD.format(
        **{**config, **digests},
        licence=licence,
        base=_base_line(model),
        language_model=type(model.language_model).__name__,
        start=start_line(provenance),
        provenance=json.dumps(provenance, indent=2, sort_keys=True),
        use=USE,
    )


def family_card(model: FamilyModel, licence: str, provenance: dict[str, Any]) -> str:
    """The card of a model of any family.

    Args:
        model: The model.
        licence: A Hugging Face licence identifier.
        provenance: JSON values about data, settings and seeds.
    """
    return FAMILY_CARD.format(
        family=model.family,
        licence=licence,
        base=_base_line(model),
        language_model=type(model.language_model).__name__,
        streams=", ".join(stream.name for stream in model.streams),
        start=start_line(provenance),
        provenance=json.dumps(provenance, indent=2, sort_keys=True),
        use=USE,
    )


def start_line(provenance: dict[str, Any]) -> str:
    """A paragraph on a start that was preference-tuned before; empty where it was not.

    Args:
        provenance: Of the card; `start` holds what `TunedModel.to_json` gives.
    """
    start = provenance.get("start")
    if not start:
        return ""
    return (
        f"Training started from {start['name']}, which was already tuned with {start['method']}, not from an untuned "
        "base. Do not compare it with models that were trained from such a base.\n\n"
    )


def _base_line(model: FamilyModel) -> str:
    """The hub's metadata about the base, where that is a model on the hub."""
    is_hub_id = model.source.count("/") == 1 and not model.source.startswith((".", "/"))
    return f"base_model: {model.source}\n" if is_hub_id else ""
