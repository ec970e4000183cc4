"""Every stage of avem on a Qwen2.5-Omni-shaped base: the controlled corpus, from media files to a trained adapter."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5OmniThinkerForConditionalGeneration
from typer.testing import CliRunner

from avem.cache import FeatureStore
from avem.cli import app
from avem.errors import AvemError
from avem.evaluate.emorealm.questions import read_questions
from avem.files import write_json_lines
from avem.records import Modality, PreferenceRow
from avem.tools.corpus.build import Corpus, build_corpus
from avem.train import PreferenceConfig, load_model, score_answers, train_preferences
from avem.train.answers import score_specs
from avem.train.data.rows import read_instructions, read_preferences
from avem.train.families.qwen_omni.model import QwenOmniModel
from avem.train.model.media import StreamRow
from avem.train.objective import constants
from tests.train.families.qwen_omni.qwen_omni_kit import WIDTH, Clip, config_2_5, save_checkpoint, thinker
from tests.train.families.qwen_omni.test_equality import with_towers

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*pattern keys did not match:RuntimeWarning", "ignore:.*is_gradient_checkpointing:FutureWarning"
)
CLIPS = 8
PIXELS = 16 * 28**2
"""Sixteen tokens a slot at most."""
QUICK = ["device=cpu", "trackers=none", "reliance_rows=0", "batch_size=6", "accumulation=1", "precision=float32"]
GRID = """
title = "Two cells"
columns = ["basic", "agree"]
seeds = [0]
settings = { max_steps = 1, batch_size = 4, accumulation = 1, trackers = "none", reliance_rows = 0 }
[[runs]]
name = "AVEm-DPO"
[[runs]]
name = "w/o TPD"
preset = "no-tpd"
"""


class Chain:
    """Where everything lies."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base, self.store = root / "base", root / "store"
        self.sft, self.dpo = root / "sft", root / "dpo"
        self.prefs, self.data = root / "prefs.jsonl", root / "rows.jsonl"
        self.corpus: Corpus = build_corpus(root / "corpus", CLIPS, seed=3, workers=1)

    def rows(self) -> list[PreferenceRow]:
        """Twelve preference rows, of every modality and of all training clips."""
        return list(read_preferences(self.prefs))

    def preferences(self, out: Path, **changes: Any) -> PreferenceConfig:
        settings = {
            "cache": self.store,
            "model": str(self.sft / "final"),
            "prefs": self.prefs,
            "out": out,
            "device": "cpu",
            "learning_rate": 3e-3,
            "epochs": 4,
            "batch_size": 6,
            "accumulation": 1,
            "beta": 1.0,
            "trackers": "none",
            "reliance_rows": 0,
            "save_every": 2,
            **changes,
        }
        return PreferenceConfig(**settings)


def avem(*arguments: object) -> str:
    """Run a command that must succeed; returns what it says."""
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.output


def chosen_settings(*more: str) -> Iterator[str]:
    for setting in (*QUICK, *more):
        yield from ("--set", setting)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Corpus, base, store with negatives, rows, and the two trainings."""
    made = Chain(tmp_path_factory.mktemp("omni"))
    save_checkpoint(thinker("qwen2_5_omni", dtype=torch.float32), made.base)
    budget = ("--fps", 2, "--max-pixels", PIXELS, "--min-pixels", 4 * 28**2)
    avem("extract", made.corpus.root, "--cache", made.store, "--for", made.base, *budget, "--workers", 1)
    avem("cache", "negatives", "--cache", made.store, "--recipe", "hard", "--k", 2)
    write_json_lines(made.data, [row.to_json() for row in list(read_instructions(made.corpus.instructions))[::9]])
    write_json_lines(made.prefs, [row.to_json() for row in spread(list(read_preferences(made.corpus.preferences)))])
    common = ("--cache", made.store, "--model", made.base, "--data", made.data, "--out", made.sft, "--stage", "sft")
    avem("train", *common, *chosen_settings("learning_rate=3e-3", "epochs=2"))
    train_preferences(made.preferences(made.dpo))
    return made


def spread(rows: list[PreferenceRow]) -> list[PreferenceRow]:
    """Four rows of each modality, from the whole file."""
    found = []
    for modality in (Modality.VISUAL, Modality.AUDIO, Modality.AUDIOVISUAL):
        own = [row for row in rows if row.modality == modality]
        found += [replace(row, rejected_irrelevant="A wall.") for row in own[:: max(len(own) // 4, 1)][:4]]
    return found


def logged(run: Path, name: str) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line[name] for line in lines if name in line]


def preferred(model: Any, store: FeatureStore, rows: list[PreferenceRow]) -> float:
    """How much likelier chosen answers are than hallucinated ones, a row."""
    asked = [
        (row.clip_id, row.question, answer) for row in rows for answer in (row.chosen, row.rejected_emotion_relevant)
    ]
    with torch.no_grad():
        scores = score_answers(model, store, asked).view(-1, 2)
    return float((scores[:, 0] - scores[:, 1]).mean())


def test_the_store_holds_what_the_towers_see_and_hear(chain: Chain) -> None:
    store = FeatureStore.open(chain.store)
    assert store.streams == ("video/qwen2_5_omni", "audio/qwen2_5_omni")
    rows = list(range(CLIPS))
    grids = store.stream("video").companion("grid", rows)
    assert store.stream("video").lengths(rows).tolist() == (grids.prod(1) // 4).tolist()
    frames = store.stream("audio").companion("mel_frames", rows)
    assert store.stream("audio").lengths(rows).tolist() == [((n - 1) // 2 - 1) // 2 + 1 for n in frames.tolist()]
    assert all(250 <= n <= 260 for n in frames.tolist())  # 2.5 s and what AAC adds
    assert all(features.shape[1] == WIDTH for features in store.stream("video").rows(rows))


def test_supervised_training_lowers_the_loss_and_keeps_the_towers(chain: Chain) -> None:
    losses = logged(chain.sft, "loss")
    assert losses[-1] < losses[0]
    before, after = (load_file(folder / "model.safetensors") for folder in (chain.base, chain.sft / "final"))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(("thinker.model.", "thinker.lm_head.")) for name in changed)


def test_preference_training_prefers_what_is_there(chain: Chain) -> None:
    margins = logged(chain.dpo, "margin")
    assert sum(margins[-2:]) > sum(margins[:2])
    store, rows = FeatureStore.open(chain.store), chain.rows()
    before, after = (preferred(load_model(run / "final"), store, rows) for run in (chain.sft, chain.dpo))
    assert after > before


def _train(config: PreferenceConfig) -> None:
    torch.set_num_threads(1)
    train_preferences(config)


def test_a_killed_run_ends_in_the_same_adapter(chain: Chain) -> None:
    config = chain.preferences(chain.root / "killed")
    child = multiprocessing.get_context("forkserver").Process(target=_train, args=(config,))
    child.start()
    metrics, deadline = config.out / "metrics.jsonl", time.monotonic() + 120
    while child.is_alive() and time.monotonic() < deadline:
        if metrics.is_file() and metrics.read_bytes().count(b"\n") >= 3:
            break
        time.sleep(0.002)
    if child.is_alive():
        os.kill(cast("int", child.pid), signal.SIGKILL)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert not (config.out / "final").exists()
    train_preferences(config)
    whole, resumed = (load_file(run / "final" / "adapter_model.safetensors") for run in (chain.dpo, config.out))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert logged(config.out, "loss") == logged(chain.dpo, "loss")


def shown(store: FeatureStore, row: int) -> dict[str, StreamRow]:
    """A clip as the store holds it."""
    video, audio = store.stream("video"), store.stream("audio")
    beside = {name: video.companion(name, [row])[0] for name in ("grid", "seconds_per_slot")}
    return {
        "video/qwen2_5_omni": StreamRow(video.rows([row])[0], beside),
        "audio/qwen2_5_omni": StreamRow(audio.rows([row])[0]),
    }


def test_the_adapter_works_in_transformers_own_thinker(chain: Chain) -> None:
    """transformers' thinker with the adapter through peft scores as the run's model, from what the store holds."""
    model = cast("QwenOmniModel", load_model(chain.dpo / "final", dtype=torch.float64))
    row, store = chain.rows()[0], FeatureStore.open(chain.store)
    (place,) = store.rows([row.clip_id])
    seen = shown(store, place)
    video, audio = seen.values()
    theirs = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
        chain.sft / "final", config=config_2_5(), dtype=torch.float64
    )
    theirs.model.get_video_features = lambda *_, **__: SimpleNamespace(pooler_output=[video.features])
    theirs.model.get_audio_features = lambda *_, **__: SimpleNamespace(last_hidden_state=audio.features)
    adapted = peft.PeftModel.from_pretrained(theirs, str(chain.dpo / "final")).eval()
    frames = int(store.stream("audio").companion("mel_frames", [place])[0])
    given = Clip(
        pixels=torch.zeros(1),
        grid=video.companions["grid"][None].long(),
        seconds_per_slot=float(video.companions["seconds_per_slot"]),
        mel=torch.zeros(1, 128, frames),
        mel_mask=torch.ones(1, frames, dtype=torch.int64),
    )
    asked = model.sequence(row.question, row.chosen, streams=seen)
    with torch.no_grad():
        ours = float(model.response_logprobs([asked])[0])
        assert abs(ours - float(with_towers(adapted, asked, given, "separate"))) < 1e-9
        adapted.disable_adapter_layers()
        assert abs(ours - float(with_towers(adapted, asked, given, "separate"))) > 1e-3  # the adapter does something


def test_constant_scores_are_computed_once(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []

    def counted(*arguments: Any, **options: Any) -> torch.Tensor:
        computed.append(1)
        return score_specs(*arguments, **options)

    monkeypatch.setattr(constants, "score_specs", counted)
    common = ("--cache", chain.store, "--prefs", chain.prefs, "--model", chain.base, "--set", "device=cpu")
    assert "constant scores" in avem("cache", "logps", *common)
    assert computed
    computed.clear()
    avem("cache", "logps", *common)
    train_preferences(chain.preferences(chain.root / "scored", model=str(chain.base), max_steps=1))
    assert not computed


@pytest.mark.parametrize("preset", ["avere-dpo", "naive-dpo", "only-irr", "vista-dpo"])
def test_every_objective_takes_a_step(chain: Chain, preset: str) -> None:
    """Presets that reject noise make it of rows of any length."""
    run, model = chain.root / f"preset-{preset}", chain.sft / "final"
    common = ("--cache", chain.store, "--model", model, "--prefs", chain.prefs, "--out", run, "--preset", preset)
    avem("train", *common, *chosen_settings("max_steps=1", "learning_rate=1e-3"))
    (loss,) = logged(run, "loss")
    assert 0 < loss < 100
    before, after = (load_model(folder, dtype=torch.float64) for folder in (model, run / "final"))
    prompt = before.sequence("Why?", "Joy.", streams=shown(FeatureStore.open(chain.store), 0))
    with torch.no_grad():
        assert float(before.response_logprobs([prompt]) - after.response_logprobs([prompt])) != 0


@pytest.mark.parametrize("streams", ["video", "audio"])
def test_one_side_trains_alone(chain: Chain, streams: str) -> None:
    rows, modality = chain.root / f"{streams}.jsonl", Modality.VISUAL if streams == "video" else Modality.AUDIO
    write_json_lines(rows, [row.to_json() for row in chain.rows() if row.modality == modality])
    config = chain.preferences(chain.root / f"only-{streams}", prefs=rows, streams=streams, max_steps=1)
    (loss,) = logged(train_preferences(config), "loss")
    assert 0 < loss < 100


@pytest.mark.parametrize("style", ["letters", "cloze"])
def test_the_benchmark_reads_the_store(chain: Chain, style: str) -> None:
    out = chain.root / f"bench-{style}"
    common = ("--questions", chain.corpus.benchmark, "--cache", chain.store, "--device", "cpu", "--out", out)
    avem("bench", "emorealm", "--model", chain.dpo / "final", "--style", style, "--limit", 2, *common)
    (result,) = out.glob("*/result.json")
    items = json.loads(result.read_text())["items"]
    assert {item["question"]["id"] for item in items} <= {one.id for one in read_questions(chain.corpus.benchmark)}
    assert items
    assert all(item["letter"] for item in items)
    assert (out / "report.html").is_file()


def test_an_answer_is_generated_from_the_store(chain: Chain) -> None:
    model = load_model(chain.dpo / "final")
    prompts = [
        model.prompt(chain.rows()[0].question, streams=shown(FeatureStore.open(chain.store), row)) for row in (0, 3)
    ]
    together = model.generate(prompts, max_new_tokens=8)
    assert together == [model.generate([prompt], max_new_tokens=8)[0] for prompt in prompts]
    assert any(together)


@pytest.mark.parametrize("probe", ["swap", "attention"])
def test_probes_read_the_store(chain: Chain, probe: str) -> None:
    out = chain.root / f"probe-{probe}"
    common = ("--questions", chain.corpus.benchmark, "--cache", chain.store, "--device", "cpu", "--out", out)
    avem("probe", probe, "--model", chain.dpo / "final", "--limit", 2, *common)
    assert json.loads((out / f"{probe}.json").read_text())
    assert (out / f"{probe}.html").is_file()


def test_a_sweep_trains_and_evaluates_two_cells(chain: Chain) -> None:
    grid, out = chain.root / "two.toml", chain.root / "sweep"
    grid.write_text(GRID)
    common = ("--cache", chain.store, "--prefs", chain.prefs, "--model", chain.sft / "final", "--out", out)
    avem("sweep", grid, *common, "--questions", chain.corpus.benchmark, "--style", "cloze", "--device", "cpu")
    table = (out / "two.md").read_text()
    assert "AVEm-DPO" in table
    assert "w/o TPD" in table


def test_features_of_another_pixel_budget_are_refused(chain: Chain) -> None:
    """The base reads any budget; what was trained on one reads no other."""
    other = chain.root / "smaller"
    common = ("--for", chain.base, "--fps", 2, "--max-pixels", 4 * 28**2, "--min-pixels", 28**2, "--workers", 1)
    avem("extract", chain.corpus.root, "--cache", other, *common)
    avem("cache", "negatives", "--cache", other, "--recipe", "hard", "--k", 2)
    assert "pixel budget" in refused(chain, other, chain.dpo / "final", chain.root / "refused")


def _config(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    change(content["thinker_config"])
    path.write_text(json.dumps(content))


def _talker_alone(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in state.items() if name.startswith("talker.")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def _silent_template(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("<|audio_bos|><|AUDIO|><|audio_eos|>", ""))


def _other_towers(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    changed = {name: value + 1 if "audio_tower" in name else value for name, value in state.items()}
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})


BAD_BASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "talker alone": (_talker_alone, "no weights of a thinker, only of talker"),
    "template without sound": (_silent_template, "no placeholder for audio that is token 259"),
    "other placeholder ids": (
        lambda folder: _config(folder, lambda thinker: thinker.update(video_token_index=262)),
        r"no placeholder for video that is token 262 \(here '<\|IMAGE\|>'\)",
    ),
    "context shorter than a clip": (
        lambda folder: _config(folder, lambda thinker: thinker["text_config"].update(max_position_embeddings=96)),
        r"^Row \S+: .*fills \d+ positions, media included, and the context holds 96; extract the clip with fewer",
    ),
    "store of other towers": (_other_towers, r"no audio/qwen2_5_omni features that .*; make them with `avem extract"),
}


@pytest.mark.parametrize("fault", BAD_BASES)
def test_a_base_that_can_not_be_trained_is_one_sentence(chain: Chain, fault: str, tmp_path: Path) -> None:
    spoil, words = BAD_BASES[fault]
    base = shutil.copytree(chain.base, tmp_path / "base")
    spoil(base)
    said = refused(chain, chain.store, base, tmp_path / "run")
    assert re.search(words, said), said


def refused(chain: Chain, store: Path, model: Path, out: Path) -> str:
    """What `avem train` says when it refuses to train; it writes no model."""
    arguments = ["train", "--cache", store, "--model", model, "--prefs", chain.prefs, "--out", out]
    ended = CliRunner().invoke(app, [*map(str, arguments), "--set", "device=cpu", "--set", "trackers=none"])
    error = ended.exception
    assert isinstance(error, AvemError), error
    assert error.exit_status == 2
    assert "\n" not in str(error)
    assert not (out / "final").exists()
    assert not (out / "metrics.jsonl").exists()
    return str(error)
