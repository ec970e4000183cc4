"""Writes the controlled corpus: clips, ground truth, instructions, preference rows and the benchmark."""

from __future__ import annotations

import csv
import io
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from avem.errors import SettingError
from avem.files import claim_directory, write_atomic, write_json_lines
from avem.progress import stage
from avem.tools.corpus import rows
from avem.tools.corpus.media import write_clip
from avem.tools.corpus.scene import Scene, draw_scenes

PLAN = "corpus.json"
"""Written first: what the folder is made of, so that a second run with other settings is refused."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Where the parts of a corpus are."""

    root: Path

    @property
    def instructions(self) -> Path:
        """Supervised rows of the training clips."""
        return self.root / "instructions.jsonl"

    @property
    def preferences(self) -> Path:
        """Preference rows of the training clips."""
        return self.root / "preferences.jsonl"

    @property
    def benchmark(self) -> Path:
        """Questions on the test clips, in the released EmoReAlM form."""
        return self.root / "emorealm_v1.json"

    @property
    def truth(self) -> Path:
        """One ground-truth record a clip."""
        return self.root / "ground_truth.jsonl"


def clip_path(scene: Scene) -> str:
    """The clip's file, relative to the corpus."""
    return f"clips/{scene.split}/{scene.clip_id.rsplit('/', 1)[-1]}.mp4"


def build_corpus(root: Path, clips: int, seed: int, workers: int = 2) -> Corpus:
    """Write a corpus; a run that was stopped goes on with the clips that are missing.

    Args:
        root: The folder to make; it may hold an unfinished corpus of the same clips and seed, and nothing else.
        clips: Number of clips; a quarter of them is for testing.
        seed: Of everything drawn.
        workers: Processes that draw and encode.

    Raises:
        SettingError: Too few clips, or the folder holds something else.
    """
    if clips < 8:
        raise SettingError(f"A corpus of {clips} clips is too small: --clips must be at least 8.")
    claim_directory(root, PLAN, {"clips": clips, "seed": seed}, "corpus")
    corpus, scenes = Corpus(root), draw_scenes(clips, seed)
    _write_clips(root, scenes, workers)
    train = [scene for scene in scenes if scene.split == "train"]
    test = [scene for scene in scenes if scene.split == "test"]
    write_json_lines(corpus.truth, (scene.to_json() for scene in scenes))
    write_json_lines(corpus.instructions, (row.to_json() for scene in train for row in rows.instructions(scene)))
    write_json_lines(corpus.preferences, (row.to_json() for scene in train for row in rows.preferences(scene)))
    asked = rows.balance([question for scene in test for question in rows.questions(scene, clip_path(scene))], seed)
    write_atomic(corpus.benchmark, json.dumps([question.to_json() for question in asked], indent=1))
    write_atomic(root / "clips.csv", _clips_csv(scenes))
    return corpus


def _write_clips(root: Path, scenes: list[Scene], workers: int) -> None:
    for split in ("train", "test"):
        (root / "clips" / split).mkdir(parents=True, exist_ok=True)
    missing = [scene for scene in scenes if not (root / clip_path(scene)).is_file()]
    with (
        stage("draw clips", len(missing)) as bar,
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
    ):
        for _ in pool.map(write_clip, missing, [root / clip_path(scene) for scene in missing], chunksize=8):
            bar.advance()


def _clips_csv(scenes: list[Scene]) -> str:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(("path", "emotion", "clip_id", "split", "dataset"))
    for scene in scenes:
        table.writerow((clip_path(scene), scene.emotion, scene.clip_id, scene.split, "demo"))
    return text.getvalue()
