"""Every stage of avem on an Emotion-LLaMA-shaped model, from media files and .srt files to the bench."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from avem.cache import FeatureStore
from avem.cli import app
from avem.errors import AvemError
from avem.extract.encoders.eva import EvaSettings, load_eva
from avem.extract.encoders.hubert import load_hubert
from avem.files import write_json_lines
from avem.tools.corpus.build import Corpus, build_corpus
from avem.train import load_model
from avem.train.data.rows import read_instructions, read_preferences
from avem.train.families.emotion_llama.importing import EncoderFacts, import_released
from avem.train.families.emotion_llama.projections import FACE, FRAME, MOTION, SOUND
from tests.train.families.emotion_llama_kit import ALPHA, RANK, SOUNDS, WIDTH, make_llama, make_released
from tests.train.metrics_kit import epoch_means

CLIPS = 8
QUICK = ["device=cpu", "trackers=none", "reliance_rows=0", "batch_size=6", "accumulation=1", "precision=float32"]
EPOCHS = 4
WORDS = "Leave me alone, {}!"


class Chain:
    """Where everything lies."""

    def __init__(self, root: Path) -> None:
        self.root, self.store, self.model = root, root / "store", root / "model"
        self.data, self.prefs = root / "rows.jsonl", root / "prefs.jsonl"
        self.corpus: Corpus = build_corpus(root / "corpus", CLIPS, seed=3, workers=1)

    def train(self, name: str, model: Path, stage: str, *settings: str) -> Path:
        rows = ("--data", self.data) if stage == "sft" else ("--prefs", self.prefs)
        chosen = [part for one in (*QUICK, *settings) for part in ("--set", one)]
        common = ("--cache", self.store, "--model", model, "--out", self.root / name, "--stage", stage)
        avem("train", *common, *rows, *chosen)
        return self.root / name

    def bench(self, model: Path, *options: str) -> dict[str, dict]:
        out = self.root / "bench"
        common = ("--questions", self.corpus.benchmark, "--cache", self.store, "--device", "cpu", "--out", out)
        avem("bench", "emorealm", "--model", model, "--style", "cloze", "--limit", 2, *common, *options)
        return {path.parent.name: json.loads(path.read_text()) for path in out.glob("*/result.json")}


def avem(*arguments: object) -> str:
    """Run a command that must succeed; returns what it says."""
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.output


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Corpus with subtitles beside all clips but one, model, store with negatives and rows."""
    made = Chain(tmp_path_factory.mktemp("emotion"))
    released = make_released(made.root / "released")
    shutil.rmtree(released.llama)
    make_llama(released.llama, max_position_embeddings=4000, initializer_range=0.2)
    tower, sound = load_eva(released.eva, EvaSettings.read(released.eva_config)), load_hubert(released.hubert)
    encoders = {FRAME: EncoderFacts(tower.weights_sha256, WIDTH), SOUND: EncoderFacts(sound.weights_sha256, SOUNDS)}
    import_released(released.files(**encoders), made.model, lora_alpha=ALPHA)
    for number, path in enumerate(sorted(made.corpus.root.rglob("*.mp4"))[1:]):
        text = f"1\n00:00:00,200 --> 00:00:01,500\n{WORDS.format(number)}\n"
        path.with_suffix(".srt").write_bytes(text.encode("utf-16"))
    said = avem(
        *("extract", made.corpus.root, "--cache", made.store, "--for", made.model),
        *("--fill-missing", "zeros", "--workers", 1),
    )
    assert f"{CLIPS - 1} of {CLIPS} clips have a subtitle ({CLIPS - 1} from srt)." in said
    avem("cache", "negatives", "--cache", made.store, "--recipe", "random-emotion", "--k", 2)
    write_json_lines(made.data, [row.to_json() for row in list(read_instructions(made.corpus.instructions))[::9]])
    chosen = [replace(row, rejected_irrelevant="A wall.") for row in read_preferences(made.corpus.preferences)]
    write_json_lines(made.prefs, [row.to_json() for row in chosen[:: max(len(chosen) // 8, 1)][:8]])
    return made


def test_zeros_are_named_in_the_manifest(chain: Chain) -> None:
    clips = FeatureStore.open(chain.store).clips
    for name in (FACE, MOTION):
        assert set(clips[f"{name.split('/')[0]}_decoder"].to_pylist()) == {"zeros"}
    for name in (FRAME, SOUND):
        assert set(clips[f"{name.split('/')[0]}_decoder"].to_pylist()) == {"pyav"}


@pytest.fixture(scope="module")
def sft(chain: Chain) -> Path:
    """Fine-tuned without subtitles, on the checkpoint's own adapters."""
    own = (f"lora_rank={RANK}", f"lora_scale={ALPHA / RANK}")
    return chain.train("sft", chain.model, "sft", "tune=lora", *own, "learning_rate=3e-2", f"epochs={EPOCHS}")


def test_supervised_training_lowers_the_loss(sft: Path) -> None:
    losses = epoch_means(sft, "loss", EPOCHS)
    assert losses[-1] < losses[0] - 0.3
    assert load_model(sft).family == "emotion_llama"


def test_preference_training_and_the_bench_with_and_without_subtitles(chain: Chain, sft: Path) -> None:
    lora = ("lora_rank=2", "learning_rate=3e-3", "beta=1.0")
    plain = chain.train("dpo", sft, "preference", *lora, "epochs=4")
    said = chain.train("dpo-said", sft, "preference", *lora, "epochs=1", "subtitles=true")
    margins = epoch_means(plain, "margin", 4)
    assert margins[-1] > margins[0] + 0.2
    losses = [
        [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (plain, said)
    ]
    last = (
        len(losses[1]) - 1
    )  # the first step has the same loss: policy and reference agree, text priors have no subtitle
    assert losses[0][last] != pytest.approx(losses[1][last], rel=1e-6)
    chain.bench(plain / "final")
    found = chain.bench(plain / "final", "--subtitles")
    assert found.keys() == {"dpo", "dpo-subtitles"}
    with_text = {row["clip_id"] for row in FeatureStore.open(chain.store).clips.to_pylist() if row["subtitle"]}
    pairs = list(zip(found["dpo"]["items"], found["dpo-subtitles"]["items"], strict=True))
    assert pairs
    for before, after in pairs:
        assert (before["logprobs"] == after["logprobs"]) == (before["clip_id"] not in with_text)


def test_another_rank_than_the_checkpoints_is_one_sentence(chain: Chain) -> None:
    out = chain.root / "refused"
    given = ["train", "--cache", chain.store, "--model", chain.model, "--prefs", chain.prefs, "--out", out]
    ended = CliRunner().invoke(app, [*map(str, given), "--set", "device=cpu", "--set", "trackers=none"])
    assert isinstance(ended.exception, AvemError)
    assert ended.exception.exit_status == 2
    assert f"adapters of rank {RANK} and alpha {ALPHA:g}" in str(ended.exception)
    assert not out.exists()
