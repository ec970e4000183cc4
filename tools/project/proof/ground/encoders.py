"""The proof's encoders: small ones, trained to recognise cues, as released ones are trained on much data.

They are trained once, on scenes and persons of their own that are drawn and never written, to predict which cues are
there; the heads that predict them are thrown away. Features of random weights hold the same, but too deeply for a
language model of two million weights to look a cue up in them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from avem.extract.decode.pixels import preprocess_frames
from avem.extract.encoders.checkpoints import read_json
from avem.extract.encoders.languagebind import load_languagebind
from avem.extract.encoders.random_weights import hf_name, save_checkpoint
from avem.extract.encoders.whisper import HOP_LENGTH, load_whisper, openai_whisper
from avem.progress import stage
from avem.records import Modality
from avem.tools.corpus.cues import FACE_CUES, VOICE_CUES
from avem.tools.corpus.drawing import draw_frames
from avem.tools.corpus.media import DURATION_S
from avem.tools.corpus.scene import Scene
from avem.tools.corpus.voice import synthesise
from avem.tools.demo.models import FRAMES, IMAGE_SIZE, PROJECTION_DIM, make_encoders
from avem.tools.project.proof.ground.rows import MEANINGLESS
from avem.tools.project.proof.ground.scenes import Split, draw_splits

SCENES = Split(3000, 300)
SEED = 7
"""Of the encoders' scenes, which have nothing to do with those of the corpus, and of their training."""
BATCH, RATE = 32, 1e-3
EPOCHS = {Modality.VISUAL: 8, Modality.AUDIO: 6}


def teach_encoders(directory: Path, scenes: Split = SCENES) -> tuple[Path, Path]:
    """Write a LanguageBind-Video tower and a Whisper encoder that recognise cues; returns their folders.

    Args:
        directory: Where they go; those that are there stay, unless one of them is missing.
        scenes: How much they are taught on.
    """
    folders = directory / "languagebind-video", directory / "whisper"
    if all(folder.is_dir() for folder in folders):
        return folders
    video, audio = make_encoders(directory / "untaught")
    drawn = draw_splits({"encoder": scenes}, SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        _teach_video(video, folders[0], drawn)
        _teach_audio(audio, folders[1], drawn)
    return folders


def _teach_video(source: Path, target: Path, scenes: Sequence[Scene]) -> None:
    model = load_languagebind(source).requires_grad_(True).train()
    with stage("draw scenes", len(scenes), "scenes") as bar:
        frames = []
        for scene in scenes:
            frames.append(draw_frames(scene, FRAMES))
            bar.advance()
    count = len(_cues(Modality.VISUAL))
    features = nn.Linear(model.config.hidden_size, count)
    pooled = nn.Linear(PROJECTION_DIM, count)

    def logits(batch: Sequence[int]) -> list[Tensor]:
        pixels = torch.from_numpy(np.stack([preprocess_frames(frames[index], IMAGE_SIZE) for index in batch]))
        states = model.hidden_states(pixels)
        return [features(states[-2][:, :, 0].mean(1)), pooled(model.pool(states[-1]))]

    _teach(logits, [*model.parameters(), *features.parameters(), *pooled.parameters()], scenes, Modality.VISUAL)
    save_checkpoint(target, read_json(source / "config.json"), model.state_dict())


def _teach_audio(source: Path, target: Path, scenes: Sequence[Scene]) -> None:
    loaded = load_whisper(source)
    module = loaded.module.requires_grad_(True).train()
    audio = openai_whisper("audio")
    length = 2 * loaded.shape.n_audio_ctx * HOP_LENGTH
    with stage("synthesise scenes", len(scenes), "scenes") as bar:
        mels = []
        for scene in scenes:
            samples = torch.from_numpy(synthesise(scene, DURATION_S))
            mels.append(audio.log_mel_spectrogram(audio.pad_or_trim(samples, length), loaded.shape.n_mels))
            bar.advance()
    head = nn.Linear(loaded.shape.n_audio_state, len(_cues(Modality.AUDIO)))

    def logits(batch: Sequence[int]) -> list[Tensor]:
        return [head(module(torch.stack([mels[index] for index in batch])).mean(1))]

    _teach(logits, [*module.parameters(), *head.parameters()], scenes, Modality.AUDIO)
    tensors = {f"encoder.{hf_name(name)}": value for name, value in module.state_dict().items()}
    save_checkpoint(target, read_json(source / "config.json"), tensors)


def _teach(
    logits: Callable[[Sequence[int]], list[Tensor]],
    parameters: Sequence[nn.Parameter],
    scenes: Sequence[Scene],
    side: Modality,
) -> None:
    """Binary cross-entropy on which cues are there, for every head."""
    seen = [{cue.name for cue in (*scene.present(side), *scene.irrelevant(side))} for scene in scenes]
    there = torch.tensor([[cue in own for cue in _cues(side)] for own in seen]).float()
    optimiser = torch.optim.AdamW(parameters, RATE, weight_decay=0.01)
    steps = EPOCHS[side] * (len(scenes) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
    with stage(f"teach {side}", steps, "steps") as bar:
        for _ in range(EPOCHS[side]):
            order = torch.randperm(len(scenes)).tolist()
            for start in range(0, len(order) - BATCH + 1, BATCH):
                batch = order[start : start + BATCH]
                losses = [functional.binary_cross_entropy_with_logits(one, there[batch]) for one in logits(batch)]
                loss = torch.stack(losses).mean()
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimiser.step()
                schedule.step()
                bar.advance(note=f"loss {loss.item():.3f}")


def _cues(side: Modality) -> list[str]:
    """Names of all cues of a modality."""
    catalogue = VOICE_CUES if side == Modality.AUDIO else FACE_CUES
    return [cue.name for cues in (*catalogue.values(), MEANINGLESS[side]) for cue in cues]
