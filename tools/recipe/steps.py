"""AVERE's base (D.2) as a list of steps: Video-LLaVA, an audio projector trained on speech, then instruction tuning."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from avem.errors import SettingError

START = "LanguageBind/Video-LLaVA-7B"
"""Language model and video projector that D.2's base starts from."""
SFT_PRESETS = ("avere-sft", "avere-sft-lora", "sft")
JOIN = "cat"


@dataclass(frozen=True, kw_only=True)
class BaseOptions:
    """What AVERE's base is made from, and where it goes."""

    out: Path = Path("./avere-base")
    """Stores, rows and runs of the recipe."""
    base: Path = Path("./base")
    """The model that is made; `avem train` starts from `./base`."""
    start: str = START
    speech: Path = Path("./speech")
    """Recordings, in a layout that `avem extract` knows."""
    transcripts: Path = Path("./speech.jsonl")
    """`{"clip_id": ..., "transcript": ...}` a line."""
    clips: tuple[Path, ...] = (Path("./mafw"), Path("./mer2025"))
    """Labelled clips: instruction rows are written about them."""
    instructions: tuple[Path, ...] = ()
    """Instruction rows that are there already, on clips of `clips`."""
    merr: tuple[Path, ...] = ()
    """MERR's JSON files, on clips of `clips`."""
    model: str = ""
    """Writes instruction rows; empty: none are written, and `instructions` or `merr` has to be given."""
    endpoint: str = "http://localhost:8000/v1"
    benchmarks: tuple[Path, ...] = ()
    video_encoder: str | None = None
    audio_encoder: str | None = None
    sft_preset: str = "avere-sft"
    settings: tuple[str, ...] = ()
    """`option=value`, for both trainings."""
    projector_settings: tuple[str, ...] = ()
    sft_settings: tuple[str, ...] = ()
    limit: int | None = None
    """At most so many clips are written about."""

    def __post_init__(self) -> None:
        """Refuse what makes no base.

        Raises:
            SettingError: Names the option.
        """
        if self.sft_preset not in SFT_PRESETS:
            raise SettingError(f"--sft-preset {self.sft_preset} is not known; known are {', '.join(SFT_PRESETS)}.")
        if not self.clips:
            raise SettingError("--clips names no folder of clips; instruction tuning needs some.")
        names = [path.name for path in self.clips]
        if len(set(names)) < len(names):
            raise SettingError("Two folders of --clips have the same name; rename one, since their rows go by it.")


@dataclass(frozen=True, slots=True)
class Need:
    """Something that a step reads and no step before it makes."""

    path: Path
    what: str
    source: str
    """Where it comes from, as the end of a sentence."""

    @property
    def there(self) -> bool:
        """Whether it is on this machine."""
        return self.path.exists()


@dataclass(frozen=True, slots=True)
class Step:
    """One command."""

    name: str
    title: str
    command: tuple[str, ...]
    """`avem` with its arguments, or `cat`, a target, and files."""
    makes: Path
    needs: tuple[Need, ...] = ()
    models: tuple[tuple[str, str], ...] = ()
    """Hub ids or folders of models that it loads, with what they are."""
    partial: bool = False
    """Whether exit status 3, a part that could not be done, lets the recipe continue."""
    lacks: str = ""
    """What has to be named before it can run; empty where nothing is open."""

    @property
    def line(self) -> str:
        """The command for a shell."""
        if self.command[0] == JOIN:
            target, *files = self.command[1:]
            return f"{JOIN} {shlex.join(files)} > {shlex.quote(target)}"
        return shlex.join(self.command)


@dataclass(frozen=True, slots=True)
class Paths:
    """Where a recipe's steps write."""

    out: Path
    speech: Path = field(init=False)
    clips: Path = field(init=False)
    rows: Path = field(init=False)
    audio: Path = field(init=False)
    sft: Path = field(init=False)

    def __post_init__(self) -> None:
        for name, place in (
            ("speech", "cache-speech"),
            ("clips", "cache"),
            ("rows", "instructions.jsonl"),
            ("audio", "audio"),
            ("sft", "sft"),
        ):
            object.__setattr__(self, name, self.out / place)


def base_steps(options: BaseOptions) -> list[Step]:
    """The steps of AVERE's base in their order.

    Args:
        options: What there is.

    Returns:
        Steps; each runs when those before it are done and its needs are there.
    """
    paths = Paths(options.out)
    return [
        *_audio_steps(options, paths),
        *_instruction_steps(options, paths),
        *_tuning_steps(options, paths),
    ]


def _audio_steps(options: BaseOptions, paths: Paths) -> list[Step]:
    speech = Need(options.speech, "recordings of speech", "LibriSpeech and SpeechCraft in the paper")
    encoder = ["--audio-encoder", options.audio_encoder] if options.audio_encoder else []
    transcripts = Need(options.transcripts, "their transcripts", "one {clip_id, transcript} object a line")
    command = ["avem", "extract", str(options.speech), "--cache", str(paths.speech), "--streams", "audio", *encoder]
    return [
        Step(
            "speech",
            "Encode the speech once",
            tuple(command),
            paths.speech,
            (speech,),
            ((options.audio_encoder or "openai/whisper-large-v3", "audio encoder"),),
        ),
        Step(
            "audio",
            "Train a new audio projector on it; everything else stays frozen",
            (
                *("avem", "train", "--stage", "projector", "--preset", "avere-audio-projector"),
                *("--model", options.start, "--cache", str(paths.speech), "--data", str(options.transcripts)),
                *("--out", str(paths.audio), *_set(*options.settings, *options.projector_settings)),
            ),
            paths.audio / "final",
            (transcripts,),
            ((options.start, "language model and video projector"),),
        ),
    ]


def _instruction_steps(options: BaseOptions, paths: Paths) -> list[Step]:
    steps, rows = [], [str(path) for path in options.instructions]
    benchmarks = [part for path in options.benchmarks for part in ("--benchmark", str(path))]
    held = tuple(
        Need(path, "the benchmark whose clips are not trained on", "its authors") for path in options.benchmarks
    )
    encoders = [
        part
        for option, name in (("--video-encoder", options.video_encoder), ("--audio-encoder", options.audio_encoder))
        if name
        for part in (option, name)
    ]
    for clips in options.clips:
        steps.append(
            Step(
                f"clips {clips.name}",
                "Encode the clips once",
                ("avem", "extract", str(clips), "--cache", str(paths.clips), *encoders),
                paths.clips,
                (Need(clips, "labelled clips", "their authors, on request"),),
                (
                    (options.video_encoder or "LanguageBind/LanguageBind_Video_merge", "video encoder"),
                    (options.audio_encoder or "openai/whisper-large-v3", "audio encoder"),
                ),
            )
        )
    common = ["--cache", str(paths.clips), *benchmarks]
    open_choice = not (options.model or options.merr or options.instructions)
    lacks = "a model that writes rows (--model), or rows that are there (--instructions, --merr)" if open_choice else ""
    for clips in options.clips if options.model or open_choice else ():
        out = options.out / f"instruct-{clips.name}"
        limit = ["--limit", str(options.limit)] if options.limit else []
        writer = ["--model", options.model or "NAME", "--endpoint", options.endpoint]
        command = ["avem", "instruct", "build", str(clips), *writer]
        steps.append(
            Step(
                f"rows {clips.name}",
                "Have a model write instruction rows about the clips (B.1, Fig. 36)",
                (*command, *common, *limit, "--out", str(out)),
                out / "instructions.jsonl",
                held,
                lacks=lacks,
            )
        )
        rows.append(str(out / "instructions.jsonl"))
    for file in options.merr:
        out = options.out / f"instruct-{file.stem}"
        steps.append(
            Step(
                f"rows {file.name}",
                "Convert MERR, Emotion-LLaMA's data",
                ("avem", "instruct", "build", str(file), *common, "--out", str(out)),
                out / "instructions.jsonl",
                (Need(file, "MERR's JSON", "Emotion-LLaMA's authors"), *held),
                partial=True,
            )
        )
        rows.append(str(out / "instructions.jsonl"))
    own = tuple(Need(path, "instruction rows", "`avem instruct build`") for path in options.instructions)
    steps.append(Step("rows", "Join all rows", (JOIN, str(paths.rows), *rows), paths.rows, own))
    return steps


def _tuning_steps(options: BaseOptions, paths: Paths) -> list[Step]:
    benchmarks = [part for path in options.benchmarks for part in ("--benchmark", str(path))]
    checked = ("avem", "instruct", "validate", str(paths.rows), "--cache", str(paths.clips), *benchmarks)
    return [
        Step("check", "Check them: leaks into benchmarks, special tokens, clips without sound", checked, paths.rows),
        Step(
            "sft",
            "Tune on them",
            (
                *("avem", "train", "--stage", "sft", "--preset", options.sft_preset, "--model", str(paths.audio)),
                *("--cache", str(paths.clips), "--data", str(paths.rows), "--out", str(paths.sft)),
                *_set(*options.settings, *options.sft_settings),
            ),
            paths.sft / "final",
        ),
        Step(
            "base",
            "Write the base as one model",
            ("avem", "models", "merge", str(paths.sft), str(options.base), "--dtype", "bfloat16"),
            options.base / "config.json",
        ),
    ]


def _set(*settings: str) -> Sequence[str]:
    return [part for setting in settings for part in ("--set", setting)]
