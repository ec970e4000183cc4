"""How many frames a caption needs (B.4, Table 8): captions at several counts against EMER's descriptions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from avem.endpoint.chat import ChatClient, ChatRequest, ChatSettings, ask_each
from avem.endpoint.media_parts import image_part
from avem.errors import DataError, EndpointError, MediaError, SettingError
from avem.evaluate.bootstrap import RESAMPLES, mean_intervals
from avem.evaluate.emer.rubric import Description, read_references
from avem.evaluate.intervals import few_note, interval_text
from avem.evaluate.paper import facts
from avem.evaluate.predict.log import AnswerLog
from avem.evaluate.predict.media_files import find_files
from avem.evaluate.sheets import Sheet
from avem.extract import sample_frames
from avem.files import file_sha256, json_sha256, write_atomic
from avem.guards.output_kinds import BENCH
from avem.guards.ownership import opened
from avem.progress import stage
from avem.records import Question
from avem.tools.prefs.asking.prompts import load_prompts
from avem.tools.prefs.media import MediaOptions, blurred_band, show_frame
from avem.tools.prefs.steps.pipeline import code_of
from avem.tools.prefs.steps.replies import find_json
from avem.tools.prefs.steps.steps import STEPS

COUNTS = (1, 2, 4, 8, 16)
"""Frame counts of Table 8."""
MEASURES = ("sbert", "bertscore_precision", "bertscore_recall", "bertscore_f1")

Scorer = Callable[[Sequence[str], Sequence[str]], Mapping[str, Sequence[float]]]
"""From captions and references to each measure's value for each pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FramesOptions:
    """What is captioned, by which model, and with how many frames."""

    references: Path
    media: Path | None
    """Folder of the clips; None: where the store has them from."""
    model: ChatSettings
    counts: tuple[int, ...] = COUNTS
    prompts: Path | None = None
    limit: int | None = None
    cache: Path = Path("./cache")
    out: Path = Path("./frames-study")
    resamples: int = RESAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse counts that make no study.

        Raises:
            SettingError: There is none, or one is not positive or given twice.
        """
        if not self.counts or min(self.counts) < 1 or len(set(self.counts)) < len(self.counts):
            raise SettingError("--counts takes different numbers of frames, each at least 1, such as 1,2,4,8,16.")


def load_scorer(sbert: str, bertscore: str, layers: int | None = None, device: str = "cpu") -> Scorer:
    """Similarity by sentence-transformers and bert-score, which the extra `similarity` installs.

    Args:
        sbert: A sentence-transformers model: a folder or hub id.
        bertscore: The model that BERTScore compares tokens with.
        layers: Its layer; needed for a folder, whose best layer bert-score does not know.
        device: Where they compute.

    Raises:
        SettingError: The packages are not installed, or a model can't be loaded.
    """
    try:
        from bert_score import BERTScorer
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise SettingError(f"The study needs `pip install 'avem[similarity]'` ({error}).") from error
    try:
        sentences = SentenceTransformer(sbert, device=device)
        tokens = BERTScorer(model_type=bertscore, num_layers=layers, device=device)
    except (OSError, ValueError, KeyError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SettingError(f"{sbert} or {bertscore} can't be loaded ({said}).") from error

    def score(captions: Sequence[str], references: Sequence[str]) -> dict[str, list[float]]:
        own = sentences.encode(list(captions), normalize_embeddings=True)
        theirs = sentences.encode(list(references), normalize_embeddings=True)
        parts = tokens.score(list(captions), list(references))
        found = [(own * theirs).sum(axis=1).tolist(), *(part.tolist() for part in parts)]
        return dict(zip(MEASURES, found, strict=True))

    return score


def frames_study(options: FramesOptions, scorer: Scorer) -> Sheet:
    """Caption EMER's clips with several numbers of frames and compare the captions with its descriptions.

    Writes `<out>/captions.jsonl`-like answers (`answers.jsonl`), and `frames.md` with the table. A stopped run resumes.

    Raises:
        DataError: No clip of the references is in the folder, or the model captioned no clip with every count.
        EndpointError: Every further request would fail too; captions so far are kept.
    """
    references = read_references(options.references)[: options.limit]
    questions = [Question(each.id, each.video, "emer", "", (), "") for each in references]
    reads = [options.references, options.prompts]
    with opened(options.out, BENCH, reads=reads, roots=[options.media], alone=False):
        files = find_files(options.media, options.cache)
        positions = files.resolve(questions).positions
        paths = {name: path for name, path in positions.items() if isinstance(path, Path)}
        if not paths:
            raise DataError(
                f"No clip of {options.references} is in {files.source}; compare names and files, or name the clips' "
                "folder with --media."
            )
        with AnswerLog(options.out / "answers.jsonl") as log:
            captions = asyncio.run(_captions(references, paths, options, log))
        shared = [each for each in references if all((each.id, count) in captions for count in options.counts)]
        if not shared:
            raise DataError("No clip has a caption with every number of frames; run the same command again.")
        sheet = _sheet(shared, captions, options, scorer)
        write_atomic(options.out / "frames.md", sheet.form("markdown"))
    return sheet


async def _captions(
    references: Sequence[Description], paths: Mapping[str, Path], options: FramesOptions, log: AnswerLog
) -> dict[tuple[str, int], str]:
    prompts = load_prompts(options.prompts)
    texts = {each.id: prompts.render("video_caption", {"code": code_of(each.id)}) for each in references}
    wanted = [(each.id, count) for each in references if each.id in paths for count in options.counts]
    keys = {
        (name, count): json_sha256(
            {
                "study": "frames",
                "endpoint": options.model.identity,
                "model": options.model.model,
                "prompt": texts[name],
                "clip": file_sha256(paths[name]),
                "frames": count,
            }
        )
        for name, count in wanted
    }
    missing = [each for each in wanted if log.get(keys[each]) is None]

    def requests() -> Iterator[tuple[tuple[str, int], ChatRequest]]:
        for name, count in missing:
            try:
                parts = _frames(paths[name], count)
            except MediaError:
                continue
            content: list[dict[str, Any]] = [{"type": "text", "text": texts[name]}, *parts]
            yield (name, count), ChatRequest([{"role": "user", "content": content}], STEPS["video_caption"].max_tokens)

    async with ChatClient(options.model) as client:
        with stage("captions", len(missing), "captions") as bar:
            async for key, reply in ask_each(client, requests()):
                value = None if isinstance(reply, EndpointError) else find_json(reply.text)
                if isinstance(value, dict) and isinstance(value.get("detailed_caption"), str):
                    log.append({keys[key]: {"id": key[0], "frames": key[1], "text": value["detailed_caption"]}})
                bar.advance()
    found = {each: log.get(keys[each]) for each in wanted}
    return {each: str(record["text"]) for each, record in found.items() if record is not None}


def _frames(path: Path, count: int) -> list[dict[str, Any]]:
    frames, shown = sample_frames(path, count), MediaOptions(frames=count)
    band = blurred_band(frames, shown)
    return [image_part(show_frame(Image.fromarray(frame), shown, band)) for frame in frames]


def _sheet(
    references: Sequence[Description],
    captions: Mapping[tuple[str, int], str],
    options: FramesOptions,
    scorer: Scorer,
) -> Sheet:
    rows, records = [], []
    texts = [each.reference for each in references]
    for count in options.counts:
        found = scorer([captions[each.id, count] for each in references], texts)
        values = np.array([found[name] for name in MEASURES], dtype=np.float64).T
        edges = mean_intervals(values, [each.id for each in references], options.resamples, options.seed)
        means = values.mean(axis=0)
        cells = [
            f"{mean:.3f}{interval_text(each, len(references), 3)}" for mean, each in zip(means, edges, strict=True)
        ]
        rows.append((str(count), *cells))
        record: dict[str, Any] = {"frames": count, "clips": len(references)}
        for name, mean, (low, high) in zip(MEASURES, means, edges, strict=True):
            record |= {name: float(mean), f"{name}_low": low, f"{name}_high": high}
        records.append(record)
    paper = "; ".join(f"{row['frames']}: {row['sbert']}, {row['bertscore_f1']}" for row in facts(8))
    header = ("frames", "SBERT", "BERTScore P", "BERTScore R", "BERTScore F1")
    title = f"Captions of {len(references)} clips against their descriptions [95 % interval]"
    note = few_note(rows, f"Paper, Table 8 (SBERT, BERTScore F1): {paper}.")
    return Sheet(title, header, tuple(rows), tuple(records), note)
