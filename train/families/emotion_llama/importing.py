"""From the files that the authors' tools use to one folder that `load_model` reads."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from avem.errors import CheckpointError, MissingFileError, SettingError
from avem.files import file_sha256, replace_directory
from avem.guards.output_kinds import MODEL
from avem.reading import read_json
from avem.train.families.emotion_llama.checkpoint import ReleasedCheckpoint, read_released
from avem.train.families.emotion_llama.config import EmotionConfig
from avem.train.families.emotion_llama.files import EVA, HUBERT, LANGUAGE_MODEL, write_parts, write_settings
from avem.train.families.emotion_llama.projections import FRAME, SOUND
from avem.train.model.tokenizers import load_tokenizer
from avem.weights import INDEX, NAMES, tensor_shapes, weight_files

LICENCE = "llama2"
"""Of the language model, as a Hugging Face identifier; the adapters' own says research alone."""
SETTINGS = ("config.json", "generation_config.json")
TOKENIZER = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)


@dataclass(frozen=True, slots=True)
class EncoderFacts:
    """What the model's configuration keeps of an encoder."""

    weights_sha256: str
    """As its features' fingerprints have it."""
    width: int
    """Channels of its features."""


@dataclass(frozen=True, slots=True)
class ReleasedFiles:
    """The files that a model is made from."""

    llama: Path
    """Folder of Llama-2-7b-chat."""
    checkpoint: Path
    """The authors' `.pth` file."""
    eva: Path
    """EVA-CLIP-g's `.pth` file."""
    hubert: Path
    """Folder of chinese-hubert-large."""
    eva_config: Path | None = None
    """Sizes of an EVA tower other than the released one."""
    encoders: Mapping[str, EncoderFacts] = field(default_factory=dict)
    """Of EVA-CLIP-g and HuBERT, by stream; without them any weights' features fit."""

    @property
    def all(self) -> list[Path]:
        """Every path."""
        return [self.llama, self.checkpoint, self.eva, self.hubert, *([self.eva_config] if self.eva_config else [])]


def import_released(
    files: ReleasedFiles, directory: Path, *, lora_alpha: float, lora_rank: int | None = None
) -> EmotionConfig:
    """Write one folder of the released files; an older model that avem wrote there is replaced whole.

    Args:
        files: What it is made from; all is copied.
        directory: The new folder.
        lora_alpha: Factor of the adapters times their rank; 16 in the authors' settings.
        lora_rank: The rank that the checkpoint should have; None: whichever it has.

    Returns:
        The model's configuration.

    Raises:
        MissingFileError: A file is not there.
        CheckpointError: A file is damaged or holds more than tensors, the checkpoint's rank is another, or the language
            model is not the one that it was trained on.
        SettingError: The alpha is out of range, or the folder holds something else or what is read.
    """
    if not lora_alpha > 0:
        raise SettingError(f"--lora-alpha is {lora_alpha:g}; it must be above 0, and is 16 in the authors' settings.")
    if not files.checkpoint.is_file():
        raise MissingFileError(f"There is no file {files.checkpoint}; give the authors' .pth file with --checkpoint.")
    released = read_released(files.checkpoint)
    if lora_rank is not None and released.rank != lora_rank:
        raise CheckpointError(
            f"The adapters in {files.checkpoint} have the rank {released.rank} and --lora-rank is {lora_rank}; leave "
            "it out, or give the checkpoint of that rank."
        )
    check_llama(files.llama, released, files.checkpoint)
    _check_encoders(files, released)
    digests = {name: facts.weights_sha256 for name, facts in files.encoders.items()}
    config = EmotionConfig(released.rank, lora_alpha, released.targets, encoders=digests)
    provenance = {"imported": {"llama": files.llama.resolve().name, "checkpoint": _described(files.checkpoint)}}

    def fill(folder: Path) -> None:
        _copy_llama(files.llama, folder / LANGUAGE_MODEL)
        (folder / EVA).mkdir()
        shutil.copyfile(files.eva, folder / EVA / "eva_vit.pth")
        if files.eva_config is not None:
            shutil.copyfile(files.eva_config, folder / EVA / "config.json")
        (folder / HUBERT).mkdir()
        for path in [*weight_files(files.hubert), *_present(files.hubert, ("config.json", "preprocessor_config.json"))]:
            shutil.copyfile(path, folder / HUBERT / path.name)
        write_parts(folder, released, config)
        write_settings(folder, config, licence=LICENCE, provenance=provenance, base=files.llama.resolve().name)

    replace_directory(directory, fill, MODEL, reads=files.all)
    return config


def _check_encoders(files: ReleasedFiles, released: ReleasedCheckpoint) -> None:
    """Refuse encoders whose features the projections do not take."""
    for name, option, wanted in ((FRAME, "--eva", released.sizes.frame), (SOUND, "--hubert", released.sizes.sound)):
        if name in files.encoders and files.encoders[name].width != wanted:
            raise CheckpointError(
                f"The encoder of {name} gives {files.encoders[name].width} channels and the projections in "
                f"{files.checkpoint} take {wanted}; give the encoder that the checkpoint was trained on with {option}."
            )


def check_llama(folder: Path, released: ReleasedCheckpoint, source: Path) -> None:
    """Refuse a language model that a checkpoint was not trained on, from the shapes of its weights.

    Args:
        folder: A Hugging Face folder of a Llama.
        released: The checkpoint.
        source: Where the checkpoint comes from, for messages.

    Raises:
        MissingFileError: A file is not there.
        CheckpointError: It is no Llama, or has another width, other layers, or another vocabulary than its tokenizer.
    """
    if not (folder / "config.json").is_file():
        raise MissingFileError(f"{folder} has no config.json; give the folder of Llama-2-7b-chat with --llama.")
    settings = read_json(folder / "config.json", dict)
    if settings.get("model_type") != "llama":
        raise CheckpointError(f"{folder} holds a {settings.get('model_type', 'nameless')!r} model, not a Llama.")
    shapes = tensor_shapes(folder)
    rows, width = (*shapes.get("model.embed_tokens.weight", ()), 0, 0)[:2]
    words = len(load_tokenizer(folder))
    if not rows == words == settings.get("vocab_size"):
        raise CheckpointError(
            f"The Llama in {folder} has embeddings of {rows} tokens, its config.json says "
            f"{settings.get('vocab_size')}, and its tokenizer has {words}; give weights and tokenizer of the Llama "
            f"that {source} was trained on."
        )
    if width != released.sizes.hidden:
        raise CheckpointError(
            f"The Llama in {folder} is {width} wide and the projections in {source} give {released.sizes.hidden} "
            "channels; give the Llama that the checkpoint was trained on."
        )
    adapted = {name.rsplit(".lora_", 1)[0] for name in released.adapters}
    of_llama = {name.removesuffix(".weight") for name in shapes if name.split(".")[-2:-1][0] in released.targets}
    if different := sorted(adapted ^ of_llama):
        raise CheckpointError(
            f"The adapters in {source} and the layers of the Llama in {folder} differ at {different[0]}; give the "
            "Llama that the checkpoint was trained on."
        )
    for name in sorted(adapted):
        wanted = shapes[f"{name}.weight"]
        found = (len(released.adapters[f"{name}.lora_B"]), released.adapters[f"{name}.lora_A"].shape[1])
        if wanted != found:
            raise CheckpointError(
                f"The adapter of {name} in {source} is for a layer of {list(found)}, and the Llama's in {folder} is "
                f"{list(wanted)}; give the Llama that the checkpoint was trained on."
            )


def _copy_llama(source: Path, target: Path) -> None:
    """The configuration, tokenizer and weights, and the index of these; nothing else of the folder."""
    target.mkdir()
    first = _present(source, NAMES)[0]
    index = [first] if first.name.endswith(INDEX) else []
    for path in [*weight_files(source), *index, *_present(source, SETTINGS + TOKENIZER)]:
        shutil.copyfile(path, target / path.name)


def _present(folder: Path, names: tuple[str, ...]) -> list[Path]:
    return [folder / name for name in names if (folder / name).is_file()]


def _described(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": file_sha256(path)}
