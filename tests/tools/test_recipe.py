"""`avem recipe avere-base`: the whole recipe on the controlled corpus, from a tiny Video-LLaVA to a base."""

from __future__ import annotations

import json
import os
import pickle
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from avem.cache import FeatureStore
from avem.cli import app
from avem.errors import AvemError, DataError, MissingFileError, SettingError
from avem.files import write_json_lines
from avem.records import Modality
from avem.tools.corpus.build import build_corpus
from avem.tools.corpus.scene import draw_scenes
from avem.tools.demo.models import ENCODER_WIDTH, make_encoders
from avem.tools.project.standin.server import StandIn
from avem.tools.recipe.costs import GIB, step_costs, training_memory
from avem.tools.recipe.run import StepFailed, join, run_steps
from avem.tools.recipe.steps import BaseOptions, Need, Step, base_steps
from avem.train import load_model, score_answers
from avem.train.data.rows import read_instructions
from avem.train.stages import stage_config
from tests.train.families.video_llava_kit import save_checkpoint

CLIPS, SEED = 12, 5
QUICK = ("device=cpu", "trackers=none", "reliance_rows=0", "precision=float32", "gradient_checkpointing=false")


class Kit:
    """Everything that the recipe reads, tiny."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.corpus = build_corpus(root / "corpus", CLIPS, SEED, workers=1)
        self.scenes = draw_scenes(CLIPS, SEED)
        self.video, self.audio = make_encoders(root / "encoders")
        self.start, self.out, self.base = root / "video-llava", root / "recipe", root / "base"
        save_checkpoint(self.start, ENCODER_WIDTH)
        self.transcripts = root / "speech.jsonl"
        said = [(one.clip_id, one.present(Modality.AUDIO)[0].phrase) for one in self.scenes]
        write_json_lines(self.transcripts, [{"clip_id": clip, "transcript": words} for clip, words in said])

    def options(self, endpoint: str, **changes) -> list[str]:
        """The command's options; a value of None leaves one out."""
        known = {
            "--speech": self.corpus.root,
            "--transcripts": self.transcripts,
            "--clips": self.corpus.root,
            "--start": self.start,
            "--video-encoder": self.video,
            "--audio-encoder": self.audio,
            "--model": "writer",
            "--endpoint": endpoint,
            "--benchmark": self.corpus.benchmark,
            "--limit": 8,
            "--out": self.out,
            "--base": self.base,
        }
        known |= {f"--{name}": value for name, value in changes.items()}
        words = [str(part) for name, value in known.items() if value is not None for part in (name, value)]
        words += [part for setting in QUICK for part in ("--set", setting)]
        words += ["--set-projector", "new_audio_projector=stack-mlp", "--set-projector", "batch_size=4"]
        words += ["--set-projector", "epochs=4", "--set-projector", "learning_rate=1e-2"]
        return [*words, "--set-sft", "batch_size=8", "--set-sft", "learning_rate=1e-3", "--set-sft", "epochs=2"]

    def recipe(self, out: Path) -> BaseOptions:
        """The recipe without its command, with a projector stage of many steps."""
        return BaseOptions(
            out=out,
            start=str(self.start),
            speech=self.corpus.root,
            transcripts=self.transcripts,
            clips=(self.corpus.root,),
            video_encoder=str(self.video),
            audio_encoder=str(self.audio),
            settings=QUICK,
            projector_settings=("new_audio_projector=stack-mlp", "batch_size=2", "epochs=60"),
        )


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Kit:
    return Kit(tmp_path_factory.mktemp("recipe"))


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def in_this_process(command: Sequence[str]) -> int:
    """A step's command without a process of its own, which is what takes the time of a tiny recipe."""
    done = CliRunner().invoke(app, list(command[1:]))
    if done.exception is None:
        return 0
    if isinstance(done.exception, AvemError):
        return int(done.exception.exit_status)
    raise done.exception


def test_the_whole_recipe_on_the_controlled_corpus(kit, monkeypatch):
    """A run without transcripts stops there; with them it comes to a base; a third run has nothing to do."""
    monkeypatch.setattr("avem.tools.recipe.run.in_own_process", in_this_process)

    def run(endpoint, **changes):
        return CliRunner().invoke(app, ["recipe", "avere-base", "--run", *kit.options(endpoint, **changes)])

    with StandIn(kit.scenes) as standin:
        lost = kit.root / "lost.jsonl"
        stopped = run(standin.endpoint, transcripts=lost).exception
        assert isinstance(stopped, MissingFileError)
        assert re.fullmatch(
            r"Step 2 of 8 \(audio\) needs their transcripts at \S+lost\.jsonl \(.*again\.", str(stopped)
        )
        assert (kit.out / "cache-speech").is_dir()
        assert not (kit.out / "audio").exists()

        done = run(standin.endpoint)
        assert done.exception is None, done.output[-3000:]
        assert "Step 1 of 8 (speech) is done." in done.output
        asked = sum(standin.arrived.values())
        assert asked > 0

        again = run(standin.endpoint)
        assert again.exception is None, again.output[-3000:]
        assert again.output.count(" is done.") == 8
        assert sum(standin.arrived.values()) == asked

    rows = read_instructions(kit.out / "instructions.jsonl")
    held = {item["clip_id"] for item in json.loads(kit.corpus.benchmark.read_text()) if "clip_id" in item}
    tested = {scene.clip_id for scene in kit.scenes if scene.split == "test"}
    assert tested
    assert not (held | tested) & {row.clip_id for row in rows}
    assert {row.task for row in rows} >= {"description", "reasoning_stress_audio", "modality_agreement"}
    for run in ("audio", "sft"):
        found = losses(kit.out / run)
        assert found[-1] < found[0]

    start, base = load_model(kit.start), load_model(kit.base)
    assert base.config.audio_projector == "stack-mlp"
    assert base.takes("audio")
    assert base.takes("video")
    before, after = start.state_dict(), base.state_dict()
    assert after.keys() > before.keys()
    assert not torch.equal(before["language_model.lm_head.weight"], after["language_model.lm_head.weight"])
    store = FeatureStore.open(kit.out / "cache")
    scores = [
        score_answers(model, store, [(row.clip_id, row.question, row.answer) for row in rows[:6]]).mean().item()
        for model in (load_model(kit.out / "audio" / "final"), base)
    ]
    assert scores[1] > scores[0]


def test_an_interrupted_recipe_stops_its_step_and_resumes(kit, tmp_path):
    """Both are processes of their own, and get the signal together, as from a terminal."""
    steps = [step for step in base_steps(kit.recipe(tmp_path / "out")) if step.name in ("speech", "audio")]
    code = (
        "import pickle, sys; from pathlib import Path; from avem.tools.recipe.run import run_steps\n"
        "run_steps(pickle.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]), print)"
    )
    (tmp_path / "steps").write_bytes(pickle.dumps(steps))
    command = [sys.executable, "-c", code, str(tmp_path / "steps"), str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    metrics = tmp_path / "out" / "audio" / "metrics.jsonl"
    end = time.monotonic() + 400
    while not metrics.is_file() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=200)
    assert b"KeyboardInterrupt" in said
    assert b"run the same command again to resume" in said
    assert not (tmp_path / "out" / "audio" / "final").exists()
    told: list[str] = []
    run_steps(steps, tmp_path / "out", told.append, launch=in_this_process)
    assert told[0] == "Step 1 of 2 (speech) is done."
    assert (tmp_path / "out" / "audio" / "final").is_dir()
    steps_logged = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps_logged == list(range(1, len(steps_logged) + 1))


def printed(*arguments) -> str:
    done = CliRunner().invoke(app, ["recipe", "avere-base", *map(str, arguments)], env={"COLUMNS": "300"})
    assert done.exception is None, done.output
    return done.output


def test_printing_runs_nothing_and_names_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = printed("--no-costs")
    assert not list(tmp_path.iterdir())
    assert "needs recordings of speech: speech (not there: LibriSpeech and SpeechCraft in the paper)" in said
    assert "needs a model that writes rows (--model), or rows that are there (--instructions, --merr)" in said
    assert "hf download LanguageBind/Video-LLaVA-7B" in said
    lines = [line.strip() for line in said.splitlines() if line.startswith("   avem ")]
    assert len(lines) == 9
    for line in lines:
        accepted(line)


def accepted(line: str) -> None:
    """The command line has these options, and settings by these names."""
    command, words = typer.main.get_command(app), shlex.split(line)[1:]
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    command.make_context("avem", words)
    if "--preset" in words:
        stage = words[words.index("--stage") + 1]
        settings = [value for name, value in pairwise(words) if name == "--set"]
        stage_config(stage, {}, preset_name=words[words.index("--preset") + 1], overrides=settings)


@pytest.mark.parametrize("preset", ["avere-sft", "avere-sft-lora", "sft"])
def test_every_printed_command_is_accepted(tmp_path, preset):
    options = BaseOptions(
        sft_preset=preset,
        model="m",
        merr=(tmp_path / "MERR_fine_grained.json",),
        instructions=(tmp_path / "own.jsonl",),
        benchmarks=(tmp_path / "emorealm_v1.json",),
        settings=("precision=bf16",),
        projector_settings=("epochs=2",),
        sft_settings=("epochs=3",),
        limit=7,
    )
    steps = base_steps(options)
    for step in steps:
        if step.command[0] == "avem":
            accepted(step.line)
    (joined,) = (step for step in steps if step.name == "rows")
    assert len(joined.command) == 2 + 4
    assert joined.line.startswith("cat ")


PAGE = (Path(__file__).parents[2] / "docs" / "recipe-avere-base.md").read_text(encoding="utf-8")


def test_the_page_has_the_recipes_commands():
    steps = base_steps(BaseOptions(model="NAME"))
    assert [line.strip() for line in PAGE.split("## The commands")[1].splitlines() if line.startswith("    ")] == [
        step.line for step in steps
    ]
    usage = PAGE.partition("## ")[0].splitlines()
    for line in usage:
        if line.startswith("    avem "):
            accepted(line.partition("#")[0].strip())


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["avere-sft", "avere-sft-lora"])
def test_the_page_has_the_memory_of_the_released_shapes(preset):
    found = training_memory(BaseOptions(sft_preset=preset))
    for name, named in (("audio", "avere-audio-projector"), ("sft", preset)):
        memory = found[name]
        (row,) = (line for line in PAGE.splitlines() if line.startswith("|") and f"(`{named}`)" in line)
        parts = (memory.weights, memory.gradients + memory.optimiser, memory.activations, memory.total)
        assert [cell.strip() for cell in row.strip("|").split("|")[1:]] == [
            f"{memory.trained:,}",
            *(f"{part / GIB:.1f}" for part in parts),
        ]


def test_memory_is_that_of_the_released_shapes(tmp_path):
    """Weights by hand: Vicuna-7B, both projectors; LoRA and full tuning differ as they should."""
    options = BaseOptions(out=tmp_path, sft_preset="avere-sft-lora")
    small = {"num_hidden_layers": 2}
    found = training_memory(options, **small)
    layer = 4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096
    llama = 2 * 32000 * 4096 + 2 * layer + 4096
    video = 1024 * 4096 + 4096 + 4096**2 + 4096
    assert found["audio"].parameters == llama + video + found["audio"].trained
    rank = 128
    adapters = 2 * rank * (4 * (4096 + 4096) + 3 * (4096 + 11008))
    assert found["sft"].trained == found["audio"].trained + video + adapters
    full = training_memory(BaseOptions(out=tmp_path), **small)["sft"]
    assert full.trained == full.parameters == llama + video + found["audio"].trained
    assert full.optimiser == 8 * full.trained
    assert full.weights == 4 * full.parameters


def test_disk_is_counted_where_the_clips_are_there(kit):
    options = BaseOptions(clips=(kit.corpus.root,), speech=kit.corpus.root, transcripts=kit.transcripts)
    costs = step_costs(base_steps(options), options, memory=False)
    each = 2 * 1500 * 1280
    assert f"disk: {each * CLIPS / 1e9:.2f} GB for {CLIPS} clips" in " ".join(costs["speech"].lines)
    each += 2 * 8 * 257 * 1024
    assert f"disk: {each * CLIPS / 1e9:.2f} GB for {CLIPS} clips" in " ".join(costs["clips corpus"].lines)


def step(folder: Path, *command: str, name: str = "one", **changes) -> Step:
    return Step(name, "A step", ("avem", *command), folder / "made", **changes)


def test_a_failing_step_is_said_in_a_sentence(tmp_path, capfd):
    said: list[str] = []
    failing = step(tmp_path, "train", "--model", str(tmp_path / "nothing"))
    with pytest.raises(StepFailed, match=r"Step 1 of 1 \(one\) ended with status 2; do what its message says") as told:
        run_steps([failing], tmp_path / "out", said.append)
    assert told.value.exit_status == 2
    assert "Traceback" not in capfd.readouterr().err


def test_a_changed_command_or_input_runs_again(tmp_path):
    rows, target = tmp_path / "rows.jsonl", tmp_path / "out" / "all.jsonl"
    rows.write_text('{"a": 1}')

    def joined(*files):
        return Step("rows", "Join", ("cat", str(target), *map(str, files)), target, (Need(rows, "rows", "you"),))

    said: list[str] = []
    run_steps([joined(rows)], tmp_path / "out", said.append)
    assert target.read_text() == '{"a": 1}\n'
    run_steps([joined(rows)], tmp_path / "out", said.append)
    assert said[-1].endswith("is done.")
    run_steps([joined(rows, rows)], tmp_path / "out", said.append)
    assert target.read_text() == '{"a": 1}\n{"a": 1}\n'
    rows.write_text('{"a": 22}\n')
    run_steps([joined(rows, rows)], tmp_path / "out", said.append)
    assert target.read_text() == '{"a": 22}\n' * 2
    target.unlink()
    run_steps([joined(rows, rows)], tmp_path / "out", said.append)
    assert target.is_file()


def test_nothing_to_join_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(DataError, match="hold no rows"):
        join(tmp_path / "all.jsonl", [tmp_path / "a.jsonl"])
    with pytest.raises(MissingFileError, match="There is no file"):
        join(tmp_path / "all.jsonl", [tmp_path / "b.jsonl"])
    assert not (tmp_path / "all.jsonl").exists()


def test_options_that_make_no_base(tmp_path):
    with pytest.raises(SettingError, match="--sft-preset"):
        BaseOptions(sft_preset="dpo")
    with pytest.raises(SettingError, match="same name"):
        BaseOptions(clips=(tmp_path / "a" / "mafw", tmp_path / "b" / "mafw"))
    (tmp_path / "letters").write_text("mine")
    done = CliRunner().invoke(app, ["recipe", "avere-base", "--run", "--out", str(tmp_path)])
    assert isinstance(done.exception, AvemError)
    assert "is not a recipe's folder made by avem" in str(done.exception)
