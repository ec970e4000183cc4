"""The model card of an Emotion-LLaMA model in avem's layout."""

from __future__ import annotations

import json
from typing import Any

from avem.train.families.emotion_llama.config import EmotionConfig
from avem.train.families.emotion_llama.projections import STREAMS

CARD = """---
library_name: avem
license: {licence}
tags: [audiovisual, emotion, multimodal]
---
# Emotion-LLaMA

A Llama 2 that reads a frame (EVA-CLIP-g), a face vector (MAE), a motion vector (VideoMAE) and a sound vector (HuBERT)
of a clip. {adapters}
Answers are scored after the layout `{prompt_format}` and generated after `{generate_format}`; subtitles are left out
unless they are given. Load the model with `avem.train.load_model`.

## Features it was trained on by avem

| stream | fingerprint |
|---|---|
{features}
{zeros}
## Provenance

```json
{provenance}
```

## Use

For research alone: the authors' weights are released for that, and Llama 2 has a licence of its own. The model can be
wrong, and it describes how someone appears, not what they feel: do not use it to judge people.
"""


def model_card(config: EmotionConfig, licence: str, provenance: dict[str, Any]) -> str:
    """The card's text in Markdown with the hub's metadata block.

    Args:
        config: Of the model.
        licence: A Hugging Face licence identifier.
        provenance: JSON values about data, settings and seeds.
    """
    adapters = "Its adapters are folded into the language model."
    if config.lora_rank:
        layers = ", ".join(f"`{name}`" for name in config.lora_targets)
        adapters = f"Adapters of rank {config.lora_rank} and alpha {config.lora_alpha:g} are on {layers}."
    rows = [f"| `{name}` | `{config.features.get(name) or 'unknown'}` |" for name in STREAMS]
    zeros = [name for name in STREAMS if name in config.zeros]
    return CARD.format(
        licence=licence,
        adapters=adapters,
        prompt_format=config.prompt_format,
        generate_format=config.generate_format,
        features="\n".join(rows),
        zeros=f"\nFilled with zeros, not computed: {', '.join(zeros)}.\n" if zeros else "",
        provenance=json.dumps(provenance, indent=2, sort_keys=True),
    )
