"""Which encoders a run uses: the two that the options name, or those that a model's family reads (`--for`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from avem.cache.records import KINDS
from avem.errors import CheckpointError, DataError, MissingFileError, SettingError
from avem.extract.encoders.source import Source as Source
from avem.hub.omni import OmniFolder, is_omni
from avem.locate import locate_model
from avem.reading import read_json

if TYPE_CHECKING:
    import torch

    from avem.extract.encoders.base import StreamEncoder
    from avem.extract.options import ExtractOptions


def is_avere(path: Path) -> bool:
    """Whether a folder is an AVERE checkpoint, or a model that avem saved on top of AVERE's features."""
    try:
        content = read_json(path / "config.json", dict)
    except (DataError, MissingFileError, OSError):
        return False
    if "family" in content:
        return content["family"] in ("avere", "generic")
    released = "LlavaLlamaForCausalLM" in str(content.get("architectures"))
    return content.get("model_type") in ("avere", "avem") or released


def _omni(path: Path, options: ExtractOptions) -> list[Source]:
    from avem.extract.encoders.omni.sources import omni_sources

    return omni_sources(path, options)


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of model whose streams avem extracts."""

    name: str
    matches: Callable[[Path], bool]
    """Whether a folder is such a model, by its configuration alone."""
    sources: Callable[[Path, ExtractOptions], list[Source]]
    """The encoders of such a folder; imports what it needs when it is called."""
    fills: bool = False
    """Whether it reads streams that `--fill-missing` can fill."""


def _refuse_sampling(path: Path, options: ExtractOptions, reads: str) -> None:
    for name in ("fps", "frames", "min_pixels", "max_pixels"):
        if getattr(options, name) is not None:
            raise SettingError(f"{path} reads {reads}, which have no --{name.replace('_', '-')}.")


def _avere(path: Path, options: ExtractOptions) -> list[Source]:
    _refuse_sampling(path, options, "LanguageBind and Whisper")
    return [_pair(slot, options) for slot in KINDS]


def _is_emotion_llama(path: Path) -> bool:
    from avem.extract.encoders.emotion_llama import is_emotion_llama

    return is_emotion_llama(path)


def _emotion_llama(path: Path, options: ExtractOptions) -> list[Source]:
    from avem.extract.encoders.emotion_llama import emotion_llama_sources

    _refuse_sampling(path, options, "the first frame and all sound")
    return emotion_llama_sources(path, options)


FAMILIES: tuple[Family, ...] = (
    Family("Emotion-LLaMA", _is_emotion_llama, _emotion_llama, fills=True),
    Family("Qwen2.5-Omni, Qwen3-Omni", is_omni, _omni),
    Family("AVERE", is_avere, _avere),
)
"""What `--for` takes; a new family is one entry."""


def find_sources(options: ExtractOptions) -> dict[str, Source]:
    """The encoders that the options ask for, by slot; none of them is loaded.

    Raises:
        MissingFileError: A checkpoint can't be found or fetched.
        CheckpointError: `--for` names a model of another kind, or one that is not whole.
        SettingError: An option does not fit the model, or `--streams` names none of its streams.
    """
    if options.model is None:
        planned = {slot: _described(slot, options) for slot in options.streams} if options.dry_run else {}
        if planned and all(planned.values()):
            return {slot: source for slot, source in planned.items() if source is not None}
        return {slot: _pair(slot, options) for slot in options.streams}
    path = locate_model(options.model, "--for")
    family = next((family for family in FAMILIES if family.matches(path)), None)
    if family is None:
        OmniFolder.open(path)  # says what is wrong with a folder that is nearly one
        raise CheckpointError(f"{path} is of no family that --for takes ({', '.join(one.name for one in FAMILIES)}).")
    if options.fill_missing and not family.fills:
        raise SettingError(f"{path} reads no stream that --fill-missing can fill; leave it out.")
    found = {source.slot: source for source in family.sources(path, options)}
    if options.streams_given is None:
        return found
    unknown = [slot for slot in options.streams_given if slot not in found]
    if unknown:
        raise SettingError(f"{path} reads {' and '.join(found)}, not {', '.join(unknown)}; change --streams.")
    return {slot: found[slot] for slot in options.streams_given}


def _pair(slot: str, options: ExtractOptions) -> Source:
    """AVERE's encoder of a slot."""
    from avem.extract.encoders.registry import AudioEncoder, VideoEncoder, load_audio_encoder, load_video_encoder

    path = locate_model(options.encoder(slot), f"--{slot}-encoder")
    if slot == "video":
        return Source(slot, VideoEncoder.name, path, lambda device, dtype: load_video_encoder(path, -2, device, dtype))
    return Source(slot, AudioEncoder.name, path, lambda device, dtype: load_audio_encoder(path, device, dtype))


PAIR = {"video": "languagebind-video", "audio": "whisper"}
"""What AVERE's encoders are called in a store."""


def _described(slot: str, options: ExtractOptions) -> Source | None:
    """AVERE's encoder of a slot as far as a plan needs it: no weights; None where its configuration is not at hand."""
    from avem.extract.encoders.pair_sizes import describe_pair

    describe = describe_pair(slot, PAIR[slot], options.encoder(slot))
    if describe is None:
        return None

    def refuse(device: str, dtype: torch.dtype) -> StreamEncoder:
        raise SettingError("A plan loads no encoder.")

    return Source(slot, PAIR[slot], Path(options.encoder(slot)), refuse, describe=describe)
