"""Writes the controlled corpus: clips, ground truth, instructions, preference rows and the benchmark."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from avem.errors import SettingError
from avem.files import claim_directory, read_json_lines, write_atomic, write_json_lines
from avem.guards.ownership import owned
from avem.processes import end_with_parent
from avem.progress import stage
from avem.records import InstructionRow, PreferenceRow, Question
from avem.sealed.checksums import check_folder, write_checksums
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
        return self.benchmark_of("test")

    def benchmark_of(self, split: str) -> Path:
        """Questions on the clips of a split that is not trained on."""
        return self.root / ("emorealm_v1.json" if split == "test" else f"{split}.json")

    @property
    def truth(self) -> Path:
        """One ground-truth record a clip."""
        return self.root / "ground_truth.jsonl"

    def shown(self) -> dict[str, dict[str, str]]:
        """What face and voice of every clip show, as `avem.cache.mine_negatives` takes labels.

        A clip has one label and may show another emotion in its face or its voice: the nearest clip of another label
        would mostly be one whose voice shows the same as this one's, and the rejected input as right as the chosen one.
        """
        check_folder(self.root, names=(self.truth.name,))
        scenes = read_json_lines(self.truth, dict)
        fields = {"video": "face_emotion", "audio": "voice_emotion"}
        return {kind: {scene["clip_id"]: scene[field] for scene in scenes} for kind, field in fields.items()}


@dataclass(frozen=True, slots=True)
class RowRecipe:
    """How a scene becomes training rows."""

    instructions: Callable[[Scene], Iterable[InstructionRow]]
    preferences: Callable[[Scene], Iterable[PreferenceRow]]
    questions: Callable[[Scene, str], Iterable[Question]] = rows.questions
    """Benchmark questions on a scene whose file has this name."""
    instructed: str = "train"
    """Split whose clips the supervised rows are about."""
    preferred: str = "train"
    """Split whose clips the preference rows are about; every further split gets a benchmark of its own."""


def clip_path(scene: Scene) -> str:
    """The clip's file, relative to the corpus."""
    return f"clips/{scene.split}/{scene.clip_id.rsplit('/', 1)[-1]}.mp4"


def build_corpus(root: Path, clips: int, seed: int, workers: int = 2) -> Corpus:
    """Write a corpus; a run that was stopped resumes with the clips that are missing.

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
    recipe = RowRecipe(rows.instructions, rows.preferences)
    return write_corpus(root, draw_scenes(clips, seed), {"clips": clips, "seed": seed}, recipe, seed, workers)


def write_corpus(
    root: Path, scenes: Sequence[Scene], plan: Mapping[str, Any], recipe: RowRecipe, seed: int, workers: int = 2
) -> Corpus:
    """Write given scenes as clips, with what is asked about them; a run that was stopped resumes.

    Args:
        root: The folder to make.
        scenes: Ground truth of every clip.
        plan: What the scenes were drawn from; a folder of another plan is refused.
        recipe: Makes the training rows, and says of which splits.
        seed: Of the benchmarks' balance.
        workers: Processes that draw and encode.

    Raises:
        SettingError: The folder holds something else.
        DataError: A clip of an earlier run is not what was written.
    """
    claim_directory(root, PLAN, plan, "corpus")
    with owned(root):
        return _write_corpus(Corpus(root), scenes, recipe, seed, workers)


def _write_corpus(corpus: Corpus, scenes: Sequence[Scene], recipe: RowRecipe, seed: int, workers: int) -> Corpus:
    root = corpus.root
    check_folder(root, names=[clip_path(scene) for scene in scenes if (root / clip_path(scene)).is_file()])
    _write_clips(root, scenes, workers)
    splits: dict[str, list[Scene]] = {}
    for scene in scenes:
        splits.setdefault(scene.split, []).append(scene)
    instructed, preferred = splits[recipe.instructed], splits[recipe.preferred]
    write_json_lines(corpus.truth, (scene.to_json() for scene in scenes))
    write_json_lines(corpus.instructions, (row.to_json() for one in instructed for row in recipe.instructions(one)))
    write_json_lines(corpus.preferences, (row.to_json() for one in preferred for row in recipe.preferences(one)))
    for split, held_out in splits.items():
        if split in (recipe.instructed, recipe.preferred):
            continue
        asked = rows.balance([asked for scene in held_out for asked in recipe.questions(scene, clip_path(scene))], seed)
        content = json.dumps([question.to_json() for question in asked], indent=1)
        write_atomic(corpus.benchmark_of(split), content)
    write_atomic(root / "clips.csv", _clips_csv(scenes))
    write_checksums(root)
    return corpus


def _write_clips(root: Path, scenes: Sequence[Scene], workers: int) -> None:
    for split in {scene.split for scene in scenes}:
        (root / "clips" / split).mkdir(parents=True, exist_ok=True)
    missing = [scene for scene in scenes if not (root / clip_path(scene)).is_file()]
    with (
        stage("draw clips", len(missing)) as bar,
        ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent) as pool,
    ):
        for _ in pool.map(write_clip, missing, [root / clip_path(scene) for scene in missing], chunksize=8):
            bar.advance()


def _clips_csv(scenes: Sequence[Scene]) -> str:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(("path", "emotion", "clip_id", "split", "dataset", "source"))
    for scene in scenes:
        dataset = scene.clip_id.partition("/")[0]
        table.writerow((clip_path(scene), scene.emotion, scene.clip_id, scene.split, dataset, scene.person.name))
    return text.getvalue()
