"""What an extraction is asked to do, and what it reports; without torch, so that the command line starts fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from avem.cache.disk.layout import LEDGER
from avem.cache.records import KINDS, ClipFailure
from avem.cache.spec import FEATURE_DTYPES
from avem.errors import SettingError
from avem.extract.defaults import DECODERS, DEFAULT_AUDIO_ENCODER, DEFAULT_DECODER, DEFAULT_VIDEO_ENCODER
from avem.extract.failures import failed_clips, failure_counts, failure_lines, unreadable_files
from avem.systems import usable_cores
from avem.text.escaping import terminal_text
from avem.text.sizes import size_text
from avem.urls import as_url

if TYPE_CHECKING:
    from avem.extract.sizes import StreamSize

AUTO = "auto"
PRECISIONS = (AUTO, "float32", "float16", "bfloat16")
MOST_FPS = 120.0
"""Above any film's; it would only repeat frames."""
ENGINES = ("local", "ray")
CUT, WINDOWS = LONG = ("cut", "windows")
"""What can be done with clips longer than 30 s."""
RUNS = "extract-runs.jsonl"
"""Ledger file with the settings, outcome and time account of every run, one JSON object a line."""


@dataclass(frozen=True, slots=True)
class ExtractOptions:
    """How to extract.

    Raises:
        SettingError: An option makes no sense; the message names it.
    """

    video_encoder: str | Path = DEFAULT_VIDEO_ENCODER
    audio_encoder: str | Path = DEFAULT_AUDIO_ENCODER
    model: str | Path | None = None
    """Folder or hub id of a model whose own encoders to use; None is the two above, which AVERE reads."""
    fps: float | None = None
    """Frames a second, for a model that samples so; None is its family's own."""
    frames: int | None = None
    """So many frames spread evenly over each clip instead."""
    min_pixels: int | None = None
    """Pixels of a slot (two frames, which share their tokens) at least; None is the family's own."""
    max_pixels: int | None = None
    """Pixels of a slot at most; None is the family's own."""
    cap_pixels: bool = True
    """Whether very long clips get smaller frames, so that a clip's tokens are bounded (`cap_pixels_per_frame`)."""
    fill_missing: str | None = None
    """`zeros`: fill the streams of a model whose encoders were never released; None leaves them to be imported."""
    dataset: str | None = None
    """Reader to use; None recognises the layout."""
    name: str | None = None
    """What to call the dataset in the store, also in the ids of its clips; None is its own name."""
    limit: int | None = None
    """Only the first so many clips."""
    only: frozenset[str] | None = None
    """Only the clips of these ids; None is all of them."""
    engine: str = "local"
    """`local`, or `ray` for the machines of a Ray cluster."""
    workers: int | None = None
    """Decoding processes of a machine, with Ray of an actor; None is one a core."""
    batch_size: int | None = None
    """Clips encoded at once; None is 32 on a GPU, halved while memory is short, and 8 elsewhere."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, or several with commas between; auto is every GPU if there is one. Ray's actors have one
    each."""
    dtype: str = "auto"
    """How features are kept: float16, bfloat16 or int8 with a scale per token. auto is float16, or what the family of
    `model` is released in."""
    precision: str = "auto"
    """What the encoders compute in; auto is float32 on a processor, and on a GPU float16 or the family's own."""
    decoder: str = DEFAULT_DECODER
    """`pyav`, or `decord` for what the reference implementation makes of a file, its errors included."""
    streams: tuple[str, ...] = KINDS
    """Slots to extract; of a `model`, the default is every stream that it reads."""
    retry_failed: bool = False
    """Try clips again that failed before."""
    long: str | None = None
    """What becomes of clips longer than 30 s: `cut` leaves them whole with the first 30 s of their sound, `windows`
    makes clips of at most 30 s of them. None is what the store was made with, else `cut`."""
    dry_run: bool = False
    """Say what would be done and how large it is, and write nothing."""
    rows_per_shard: int = 64
    """Clips written and committed at once."""

    def __post_init__(self) -> None:
        """Check every option."""
        for name in ("limit", "workers", "batch_size", "rows_per_shard", "frames", "min_pixels", "max_pixels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingError(f"--{name.replace('_', '-')} must be at least 1, not {value}.")
        if self.dtype not in (AUTO, *FEATURE_DTYPES):
            raise SettingError(f"--dtype must be one of {', '.join((AUTO, *FEATURE_DTYPES))}, not {self.dtype}.")
        if self.precision not in PRECISIONS:
            raise SettingError(f"--precision must be one of {', '.join(PRECISIONS)}, not {self.precision}.")
        if self.decoder not in DECODERS:
            raise SettingError(f"--decoder must be one of {', '.join(DECODERS)}, not {self.decoder}.")
        if self.engine not in ENGINES:
            raise SettingError(f"--engine must be one of {', '.join(ENGINES)}, not {self.engine}.")
        if self.long is not None and self.long not in LONG:
            raise SettingError(f"--long must be one of {', '.join(LONG)}, not {self.long}.")
        if not all(self.device_names):
            raise SettingError(f"--device takes devices with commas between, not {self.device!r}.")
        known = self.model is not None or set(self.streams) <= set(KINDS)
        if not self.streams or not known or len(set(self.streams)) != len(self.streams):
            raise SettingError(
                f"--streams takes {' and '.join(KINDS)}, each once, not {', '.join(self.streams) or 'none'}."
            )
        self._check_sampling()
        self._check_encoders()

    def _check_sampling(self) -> None:
        """Refuse settings of a model's sampling that make no sense, or that have no model."""
        if self.fps is not None and not 0 < self.fps <= MOST_FPS:
            raise SettingError(f"--fps must be above 0 and at most {MOST_FPS}, not {self.fps:g}.")
        if self.fps is not None and self.frames is not None:
            raise SettingError("--fps and --frames both say how many frames to take; give one of them.")
        if self.fill_missing not in (None, "zeros"):
            raise SettingError(f"--fill-missing takes zeros, not {self.fill_missing}.")
        settings = ("fps", "frames", "min_pixels", "max_pixels", "fill_missing")
        given = [name for name in settings if getattr(self, name) is not None]
        if given and self.model is None:
            option = f"--{given[0].replace('_', '-')}"
            raise SettingError(f"{option} is a setting of the model that --for names; give --for MODEL as well.")

    def _check_encoders(self) -> None:
        """Refuse encoders beside a model, which has its own."""
        if self.model is None:
            return
        for kind, default in (("video", DEFAULT_VIDEO_ENCODER), ("audio", DEFAULT_AUDIO_ENCODER)):
            if str(self.encoder(kind)) != default:
                raise SettingError(
                    f"--for uses the encoders of {self.model}; leave out --{kind}-encoder, or leave out --for to "
                    f"extract with {self.encoder(kind)}."
                )

    @property
    def streams_given(self) -> tuple[str, ...] | None:
        """The slots that were asked for by name; None is every stream that `model` reads."""
        return None if self.model is not None and self.streams == KINDS else self.streams

    @property
    def device_names(self) -> tuple[str, ...]:
        """The devices that `device` names; `auto` is one name here."""
        return tuple(name.strip() for name in self.device.split(","))

    @property
    def worker_count(self) -> int:
        """Decoding processes to start."""
        return self.workers or min(usable_cores(), 16)

    def encoder(self, kind: str) -> str | Path:
        """Name or path of the encoder of AVERE's video or audio stream."""
        return self.video_encoder if kind == "video" else self.audio_encoder


@dataclass(slots=True)
class Timings:
    """Where an extraction's time went, in seconds; of several devices, the sum of their times but for `total`."""

    plan: float = 0.0
    """Reading the layout and hashing new files."""
    load: float = 0.0
    """Loading the encoders."""
    decode: float = 0.0
    """Decoding and preprocessing, summed over the worker processes."""
    wait: float = 0.0
    """The encoding thread waiting for decoded clips."""
    encode: float = 0.0
    """Mels, batching and encoding."""
    write: float = 0.0
    """Writing shards, on a thread for each stream."""
    write_wait: float = 0.0
    """The encoding thread waiting for those threads."""
    total: float = 0.0

    def add(self, other: Timings) -> None:
        """Enter another device's times."""
        for name in ("decode", "wait", "encode", "write", "write_wait"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def limiting_stage(self, workers: int, devices: int = 1) -> str:
        """The stage that would be too slow even if all others took no time."""
        loads = {"decode": self.decode / workers, "encode": self.encode / devices, "write": self.write / devices}
        return max(loads, key=lambda name: loads[name])


@dataclass(frozen=True, slots=True)
class Remarks:
    """What to know about the clips of a run besides failures."""

    long: tuple[str, ...] = ()
    """Clips longer than 30 s that the store holds whole alone, so that their sound is cut."""
    divisible: int = 0
    """How many of these `--long windows` would divide."""
    windows: int = 0
    """Clips that are windows of longer ones."""
    silent: tuple[str, ...] = ()
    """Clips whose sound is all zeros."""

    def lines(self) -> list[str]:
        """The same in sentences."""
        lines = []
        if self.windows:
            lines.append(f"{_count(self.windows, 'clip is a window', 'clips are windows')} of a longer clip.")
        if self.long:
            advice = "; `--long windows` adds clips of at most 30 s each" if self.divisible else ""
            lines.append(
                f"{_count(len(self.long), 'clip is', 'clips are')} longer than 30 s ({_first(self.long)}): frames are "
                f"from the whole clip, sound from its first 30 s{advice}."
            )
        if self.silent:
            number = _count(len(self.silent), "clip is silent", "clips are silent")
            lines.append(f"{number}, every sample is zero ({_first(self.silent)}).")
        return lines


@dataclass(slots=True)
class ExtractReport:
    """What an extraction did."""

    store: Path
    clips: int
    """Clips of the dataset that were asked for."""
    encoded: dict[str, int] = field(default_factory=dict)
    """Clips that this run added features of, by stream."""
    pending: dict[str, int] = field(default_factory=dict)
    """Clips that were to be encoded when the run began, by stream."""
    left: dict[str, int] = field(default_factory=dict)
    """Clips that another run on the same store had claimed when this one ended, by stream; only where there are any."""
    failures: list[ClipFailure] = field(default_factory=list)
    """All clips of the dataset without features, from this run or an earlier one; a dry run leaves out the pending."""
    remarks: Remarks = field(default_factory=Remarks)
    relabelled: int = 0
    """Clips that were in the store and whose label, split or source was corrected."""
    subtitled: int = 0
    """Clips whose subtitle was entered, changed or removed."""
    notes: list[str] = field(default_factory=list)
    """What else to know, a sentence each: labels that are not understood, files and folders that were passed over."""
    bytes_needed: int = 0
    """Disk space that the pending features take."""
    sizes: dict[str, StreamSize] = field(default_factory=dict)
    """How large the pending rows of each stream are, by slot."""
    bytes_free: int = 0
    timings: Timings = field(default_factory=Timings)
    workers: int = 1
    devices: int = 1
    """Devices that encoded: those of this machine, or Ray's actors."""

    @property
    def failed_clips(self) -> int:
        """How many clips failed; one whose picture and sound both failed counts once."""
        return failed_clips(self.failures)

    @property
    def limiting_stage(self) -> str:
        """`decode`, `encode` or `write`: the stage that no other could make up for."""
        return self.timings.limiting_stage(self.workers, self.devices)

    @property
    def clips_per_s(self) -> float:
        """Clips encoded a second of the whole run; of the stream that had most to do."""
        return max(self.encoded.values(), default=0) / max(self.timings.total, 1e-9)

    @property
    def summary(self) -> str:
        """The time account and the outcome, in a few lines."""
        return "\n".join([*self._outcome(), *self.remarks.lines()])

    def _outcome(self) -> list[str]:
        t = self.timings
        failed = failure_counts(self.failures)
        readable = self.clips - unreadable_files(self.failures)
        if self.bytes_free and not self.encoded:
            todo = ", ".join(f"{count} {kind}" for kind, count in self.pending.items())
            size, free = size_text(self.bytes_needed), size_text(self.bytes_free)
            clips = _count(readable, "clip", "clips")
            known = f"; {failed}" if self.failures else ""
            plan = f"{clips}: {todo} to extract into {as_url(self.store)}, {size} of {free} free{known}."
            sizes = [line for size in self.sizes.values() for line in size.lines()]
            return [plan, *sizes, *self.notes, *failure_lines(self.failures)]
        done = ", ".join(f"{count} {kind}" for kind, count in self.encoded.items())
        done = done or ("no features to add" if self.relabelled or self.subtitled else "nothing to do")
        lines = [f"{_count(readable, 'clip', 'clips')} in {as_url(self.store)}: {done}; {failed}."]
        if any(self.encoded.values()):
            devices = f" on {self.devices} devices" if self.devices > 1 else ""
            lines.append(
                f"{t.total:.1f} s ({self.clips_per_s:.1f} clips/s): plan {t.plan:.1f}, load {t.load:.1f}, "
                f"decode {t.decode:.1f} on {self.workers} workers, encode {t.encode:.1f}{devices}, "
                f"write {t.write:.1f}, waiting for clips {t.wait:.1f} and for the disk {t.write_wait:.1f}; "
                f"{self.limiting_stage} limits. Every run's account is in {as_url(self.store / LEDGER / RUNS)}."
            )
        if self.left:
            others = ", ".join(f"{count} {kind}" for kind, count in self.left.items())
            lines.append(f"Another run has claimed {others}; once it has ended, the same command sees to what is left.")
        lines += self.notes
        return [*lines, *failure_lines(self.failures)]


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _first(names: Sequence[str], count: int = 3) -> str:
    more = f", and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(map(terminal_text, names[:count])) + more
