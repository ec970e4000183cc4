"""What is written beside an adapter or a checkpoint: settings of the run, and a card for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avem import __version__
from avem.errors import CheckpointError
from avem.sealed.checksums import write_checksums
from avem.train.model.card import start_line
from avem.train.model.saving import ADAPTER_TYPE, FORMAT_VERSION, UNKNOWN_LICENCE

if TYPE_CHECKING:
    from avem.train.families.qwen_omni.model import QwenOmniModel

SETTINGS = "qwen_omni"
"""Key of this family's settings in a run's `config.json`."""
FILE = "avem.json"
"""The same settings in a checkpoint's folder, whose `config.json` is transformers'."""
CARD = """---
library_name: {library}
license: {licence}
{base}tags: [audiovisual, emotion, multimodal]
---
# {title}

{about}

Layout of a clip in the prompt: `{layout}`.

## Features it was trained on

{features}

## Provenance

{start}```json
{provenance}
```

## Use

For research on how models explain emotion in video and sound. It can be wrong, and it describes how someone appears,
not what they feel: do not use it to judge people. The licence of the base model and of the training data applies too.
"""
TITLE = "Qwen-Omni for emotion in video and sound"
ADAPTER = (
    "A low-rank adapter of a Qwen-Omni thinker's language model, under the names of the released checkpoint. Load it "
    "with `avem.train.load_model`, or into transformers' thinker with `peft.PeftModel.from_pretrained`."
)
WHOLE = "A Qwen-Omni checkpoint in the released layout; towers and talker are those of its base."


def write_run(folder: Path, model: QwenOmniModel, base: str, provenance: dict[str, Any]) -> None:
    """Write `config.json`, the card and the checksums beside an adapter.

    Args:
        folder: With the adapter's files.
        model: What was trained.
        base: Path relative to the folder's final place, or hub id.
        provenance: Settings and data of the run.
    """
    licence = model.licence or UNKNOWN_LICENCE
    settings = {
        "model_type": ADAPTER_TYPE,
        "format_version": FORMAT_VERSION,
        "avem_version": __version__,
        "family": model.family,
        "base": base,
        SETTINGS: own_settings(model),
        "licence": licence,
        "provenance": provenance,
    }
    (folder / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_card(model, licence, provenance, "peft", ADAPTER), encoding="utf-8")
    write_checksums(folder)


def own_settings(model: QwenOmniModel) -> dict[str, Any]:
    """How the model was trained, as far as using it depends on it."""
    return {"layout": model.layout_name, "features": model.digests}


def model_card(model: QwenOmniModel, licence: str, provenance: dict[str, Any]) -> str:
    """The card of a whole checkpoint."""
    return _card(model, licence, provenance, "transformers", WHOLE)


def merged_card(licence: str, provenance: dict[str, Any]) -> str:
    """The card of a checkpoint that adapters were folded into."""
    return CARD.format(
        library="transformers",
        licence=licence or UNKNOWN_LICENCE,
        base="",
        title=TITLE,
        about=WHOLE,
        layout="as the adapters' cards say",
        features="As the adapters' cards say.",
        start=start_line(provenance),
        provenance=json.dumps(provenance, indent=2, sort_keys=True),
    )


def check_version(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse the result of a run that another avem wrote in another format.

    Raises:
        CheckpointError: `format_version` is not this avem's.
    """
    version = settings.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{folder} has format version {version}; this avem reads {FORMAT_VERSION}, update it.")


def _card(model: QwenOmniModel, licence: str, provenance: dict[str, Any], library: str, about: str) -> str:
    is_hub_id = model.source.count("/") == 1 and not model.source.startswith((".", "/"))
    rows = [f"| {name} | `{digest}` |" for name, digest in sorted(model.digests.items())]
    features = "\n".join(["| stream | fingerprint |", "|---|---|", *rows]) if rows else "Not recorded."
    return CARD.format(
        library=library,
        licence=licence,
        base=f"base_model: {model.source}\n" if is_hub_id else "",
        title=TITLE,
        about=about,
        layout=model.layout_name,
        features=features,
        start=start_line(provenance),
        provenance=json.dumps(provenance, indent=2, sort_keys=True),
    )
