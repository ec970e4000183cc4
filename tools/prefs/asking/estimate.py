"""What a build would ask and cost, before anything is sent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from avem.errors import DataError, MediaError
from avem.extract import probe
from avem.extract.decode.media import MediaInfo
from avem.reading import parse_json, read_bytes
from avem.records import Clip, Modality
from avem.tools.prefs.asking.prompts import load_prompts
from avem.tools.prefs.build import select_clips
from avem.tools.prefs.instruct.captions import read_captions
from avem.tools.prefs.options import BuildOptions
from avem.tools.prefs.steps.steps import STEPS, Step

CHARACTERS_PER_TOKEN = 4
TOKENS_PER_SECOND = 32
"""Of sound. Providers count between 10 and 32."""
TOKENS_PER_FRAME = 260
"""Providers count between 85 and 765 for a small picture."""
KEPT_SHARE = 0.8
"""Clips where at least one caption gives the label."""
SIDE_SHARE = 0.6
"""Clips where a given side's caption gives the label."""
QUESTIONS_PER_REPLY = 2
UNGUESSED_SHARE = 0.7
"""Questions that not every model guesses from the text."""
CORRECTED_SHARE = 0.05
"""Replies that need a second request."""
ASSUMPTIONS = (
    f"Assumed: a caption gives the label for {KEPT_SHARE:.0%} of clips ({SIDE_SHARE:.0%} a side), "
    f"{QUESTIONS_PER_REPLY} questions a reply, {UNGUESSED_SHARE:.0%} not guessed where models guess, "
    f"{CORRECTED_SHARE:.0%} corrected; "
    f"{TOKENS_PER_FRAME} tokens a frame, {TOKENS_PER_SECOND} a second of sound."
)


@dataclass(frozen=True, slots=True)
class StepEstimate:
    """One step."""

    step: str
    requests: int
    answered: int
    """Replies that the log holds already, and that cost nothing again."""
    prompt_tokens: int
    """Of the requests that are still to be sent."""
    reply_tokens: int
    cost: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """All steps."""

    clips: int
    rows: tuple[StepEstimate, ...]
    priced: bool
    assumptions: str = ASSUMPTIONS

    @property
    def requests(self) -> int:
        """Requests that are still to be sent."""
        return sum(max(row.requests - row.answered, 0) for row in self.rows)

    @property
    def cost(self) -> float:
        """Of all steps, in the unit of the prices."""
        return sum(row.cost for row in self.rows)


def estimate(options: BuildOptions, price_in: float = 0.0, price_out: float = 0.0) -> Estimate:
    """Count requests and tokens; nothing is sent and nothing written.

    The two caption steps are exact. Later steps depend on replies, and stand on the shares in `ASSUMPTIONS`.

    Args:
        options: The build.
        price_in: Price of a million prompt tokens, in any currency.
        price_out: Price of a million reply tokens.
    """
    prompts = load_prompts(options.prompts)
    clips = [clip for clip in select_clips(options)[0] if clip.emotion]
    if options.root.is_file():
        infos = captioned_infos(options.root, {clip.clip_id for clip in clips})
    else:
        with ThreadPoolExecutor() as pool:
            infos = [info for info in pool.map(lambda clip: _probe(clip, options.root), clips) if info]
    audio, video = sum(info.has_audio for info in infos), sum(info.frames > 0 for info in infos)
    seconds = sum(min(max(info.duration_s, 1.0), 30.0) for info in infos if info.has_audio) / max(audio, 1)
    both = sum(info.has_audio and info.frames > 0 for info in infos)
    answered = _answered(options.out / "log.jsonl")
    rows = []
    for name, count in _requests(options, audio, video, both).items():
        step = STEPS[name]
        total = round(count * (1 + CORRECTED_SHARE))
        left = max(total - answered.get(name, 0), 0)
        each = len(prompts.texts[name]) // CHARACTERS_PER_TOKEN + _filled(step, options, seconds)
        prompt_tokens, reply_tokens = left * each, left * step.typical_tokens
        cost = (prompt_tokens * price_in + reply_tokens * price_out) / 1e6
        rows.append(StepEstimate(name, total, answered.get(name, 0), prompt_tokens, reply_tokens, cost))
    return Estimate(len(clips), tuple(rows), bool(price_in or price_out))


def _requests(options: BuildOptions, audio: int, video: int, both: int) -> dict[str, int]:
    """Requests by step, without those that ask for a corrected reply."""
    tasks, guessers = options.all_tasks, len(options.guessers)
    unguessed = UNGUESSED_SHARE if guessers else 1
    asked = {"audio_caption": audio, "video_caption": video, "audio_emotion": audio, "video_emotion": video}
    if options.root.is_file():  # captions that are there already, most with the emotion told from them
        asked = {}
    kept = {"audio": round(audio * KEPT_SHARE), "video": round(video * KEPT_SHARE)}
    written: dict[str, float] = {"audio": 0, "video": 0, "agreement": 0}
    items = 0.0
    for side, there in (("audio", audio), ("video", video)):
        if f"reasoning_basic_{side}" in tasks:
            asked[f"basic_{side}"] = round(there * SIDE_SHARE)
            written[side] += asked[f"basic_{side}"] * QUESTIONS_PER_REPLY * unguessed
            items += asked[f"basic_{side}"] * QUESTIONS_PER_REPLY
        if f"reasoning_stress_{side}" in tasks:
            for kind, share in (("present", SIDE_SHARE), ("spurious", KEPT_SHARE), ("hallucinated", KEPT_SHARE)):
                asked[f"stress_{side}_{kind}"] = round(there * share)
                items += round(there * share)
    if "modality_agreement" in tasks:
        asked["agreement"] = round(both * KEPT_SHARE)
        written["agreement"] = asked["agreement"] * unguessed
        items += asked["agreement"]
    asked["text_guess"] = round(items * guessers)
    if "description" in tasks:
        asked["description"] = min(kept.values())
    if options.kind == "prefs":
        if "description" in tasks:
            written["audio"] += asked["description"] / 2
            written["video"] += asked["description"] / 2
        asked |= {f"rejected_{name}": round(count) for name, count in written.items() if count}
    return asked


def _filled(step: Step, options: BuildOptions, seconds: float) -> int:
    """Tokens of what fills a prompt."""
    captions = sum(STEPS[name].typical_tokens for name in step.placeholders if name in STEPS)
    question = 150 if "question" in step.placeholders else 0
    media = {Modality.AUDIO: seconds * TOKENS_PER_SECOND, Modality.VISUAL: options.media.frames * TOKENS_PER_FRAME}
    return round(captions + question + (media[step.media] if step.media else 0))


def captioned_infos(path: Path, wanted: Collection[str]) -> list[MediaInfo]:
    """What captions say about their clips' media: which sides there are."""
    return [
        MediaInfo(0.0, 0.0, int(Modality.VISUAL in clip.captions), Modality.AUDIO in clip.captions)
        for clip in read_captions(path)
        if clip.clip_id in wanted
    ]


def _probe(clip: Clip, root: Path) -> MediaInfo | None:
    try:
        info = probe(root / clip.path)
    except MediaError:
        return None
    if clip.audio_path and not info.has_audio:
        return MediaInfo(info.duration_s, info.fps, info.frames, (root / clip.audio_path).is_file())
    return info


def _answered(log: Path) -> Mapping[str, int]:
    """Replies in the log by step."""
    steps: dict[str, str] = {}
    found: dict[str, int] = {}
    if not log.is_file():
        return found
    for line in read_bytes(log).splitlines():
        try:
            entry = parse_json(line, str(log), dict)
        except DataError:
            continue  # `prefs build` names damaged lines; an estimate needs no more than the others
        number, step = str(entry.get("id")), entry.get("step")
        if entry.get("type") == "request" and isinstance(step, str):
            steps[number] = step
        elif entry.get("type") == "reply" and (step := steps.get(number)):
            found[step] = found.get(step, 0) + 1
    return found
