"""`avem emorealm`: what belongs to the benchmark besides building and answering it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avem.commands.data.harness import export
from avem.commands.data.prefs import emorealm_app as emorealm_app
from avem.commands.data.survey import show_clips
from avem.commands.options import (
    DEFAULT_QUESTIONS,
    DEFAULT_STORE,
    NONE,
    KeyVariable,
    Parallel,
    QuestionsOption,
    Retries,
    StoreOfClips,
    Timeout,
    prints_table,
    store_of_clips,
)
from avem.endpoint.reach import need_endpoint
from avem.guards.inputs import need_file, need_path
from avem.guards.output_kinds import BENCH, SURVEY
from avem.guards.outputs import folder_target
from avem.text.lists import counted
from avem.text.terminal import show

emorealm_app.command("export")(export)

Clips = Annotated[
    Path | None,
    typer.Option("--media", help="Folder of the clips, or the one around it.", show_default="as recorded in --cache"),
]


@emorealm_app.command("subtasks")
def subtasks(
    model: Annotated[str, typer.Option(help="Model that says whether a cue is in the clip.")],
    questions: QuestionsOption = DEFAULT_QUESTIONS,
    endpoint: Annotated[str, typer.Option(help="OpenAI-compatible address of the model.")] = "http://localhost:8000/v1",
    media: Clips = None,
    cache: StoreOfClips = None,
    captions: Annotated[
        Path | None,
        typer.Option(help="captions.jsonl of `avem emorealm build`, shown instead of the clips.", show_default=NONE),
    ] = None,
    frames: Annotated[int, typer.Option(help="Number of frames to send per clip.", min=1)] = 8,
    survey: Annotated[
        Path | None, typer.Option(help="Also make a survey here, in which people check the labels.", show_default=NONE)
    ] = None,
    sample: Annotated[
        int | None, typer.Option(help="Number of labels in the survey.", min=1, show_default="all")
    ] = None,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    parallel: Parallel = 8,
    timeout: Timeout = 120.0,
    retries: Retries = 5,
    seed: Annotated[int, typer.Option(help="Random seed of the survey.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the labels and the replies.")] = Path("./subtasks"),
) -> None:
    """Label the subtasks of the stress test.

    A model says of each question whose answer is no whether the cue that it names is in the clip.

    Writes OUT/subtasks.jsonl, which `avem bench emorealm --subtasks` reads. Run the same command again to resume.
    """
    need_file(questions, "--questions", "benchmark file")
    need_file(captions, "--captions", "file of captions")
    need_path(media, "--media", "folder of clips")
    store = store_of_clips(cache, media)
    folder_target(out, BENCH, reads=[questions, captions], roots=[media])
    need_endpoint(endpoint, saved=out)
    if survey is not None:
        folder_target(survey, SURVEY, option="--survey", reads=[questions, captions], roots=[media])

    from avem.endpoint.chat import ChatSettings
    from avem.evaluate.emorealm.questions import read_questions
    from avem.evaluate.emorealm.subtasks import read_subtasks
    from avem.tools.prefs.cue_labels import CueOptions, check_complete, label_cues
    from avem.tools.prefs.survey.cues import make_cue_survey
    from avem.tools.prefs.survey.pages import SurveyOptions

    settings = ChatSettings(
        endpoint=endpoint, model=model, key_variable=key_variable, timeout_s=timeout, retries=retries, parallel=parallel
    )
    labels = label_cues(
        CueOptions(
            questions=questions,
            model=settings,
            media=media,
            cache=store if captions is None else cache,
            captions=captions,
            frames=frames,
            out=out,
        )
    )
    for task, counts in labels.counts.items():
        show(f"{task}: " + (", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "none"))
    show(f"The labels are in {labels.path}; use them with --subtasks.")
    if survey is not None:
        options = SurveyOptions(source=labels.path, out=survey, media=media, cache=store, sample=sample, seed=seed)
        made = make_cue_survey(read_questions(questions), read_subtasks(labels.path), options)
        number = counted(made.blocks, "label")
        show(f"{number} are in {survey}; `avem prefs votes {survey} ANSWERS... --out FILE` counts the votes.")
    check_complete(labels)
    if survey is not None:
        show_clips(made.clips)


@emorealm_app.command("stats")
@prints_table()
def stats(
    questions: QuestionsOption = DEFAULT_QUESTIONS,
    source: Annotated[
        Path | None,
        typer.Option(help="Dataset that the clips are from, to compare emotions with.", show_default=NONE),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Name of its layout, if it is not recognised.", show_default="recognised")
    ] = None,
    subtasks: Annotated[Path | None, typer.Option(help="Subtasks of the stress questions.", show_default=NONE)] = None,
    languages: Annotated[
        Path | None, typer.Option(help="CSV that `avem emorealm languages` wrote.", show_default=NONE)
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the table and the pictures.")] = Path("./stats"),
    *,
    form: str,
) -> None:
    """Count what a benchmark holds.

    Questions, clips and chance by task; subtasks; emotions against the source; languages.

    Writes the table and pictures of Table 1 and Figs. 7 to 9.
    """
    need_file(questions, "--questions", "benchmark file")
    need_path(source, "--source", "dataset")
    need_file(subtasks, "--subtasks", "file of subtasks")
    need_file(languages, "--languages", "file of languages")
    folder_target(out, BENCH, reads=[questions, subtasks, languages], roots=[source])

    from collections import Counter

    from avem.commands.tables import show_sheet
    from avem.evaluate.emorealm.groups import read_clip_columns
    from avem.evaluate.emorealm.questions import read_questions
    from avem.evaluate.emorealm.subtasks import read_subtasks, with_subtasks
    from avem.extract import read_dataset
    from avem.guards.ownership import opened
    from avem.tools.prefs.stats import benchmark_stats, write_stats

    asked = with_subtasks(read_questions(questions), read_subtasks(subtasks) if subtasks else {})
    clips = read_dataset(source, dataset) if source else []
    rows = read_clip_columns(languages) if languages else {}
    spoken = Counter(row.get("language") or "unknown" for row in rows.values())
    labels = {clip.path.rpartition("/")[2]: clip.emotion for clip in clips if clip.emotion}
    known = {q.video: labels[name] for q in asked if (name := q.video.rpartition("/")[2]) in labels}
    found = benchmark_stats(asked, [clip.emotion for clip in clips if clip.emotion], known)
    with opened(out, BENCH, alone=False):
        paths = write_stats(found, dict(spoken.most_common()), out)
    show_sheet(found.sheet(), form)
    if form == "table":
        if found.distance is not None:
            show(f"Emotions differ from the source's by a total variation distance of {found.distance:.3f}.")
        show(f"Table and pictures: {', '.join(map(str, paths))}.")


@emorealm_app.command("languages")
def languages(
    whisper: Annotated[str, typer.Option(help="Multilingual Whisper model, such as large-v3.pt.")],
    questions: QuestionsOption = DEFAULT_QUESTIONS,
    media: Clips = None,
    cache: StoreOfClips = None,
    subtitles: Annotated[
        bool, typer.Option("--subtitles", help="Also write English subtitles of clips in other languages.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="CSV file to write or to complete.")] = Path("./languages.csv"),
) -> None:
    """Find the language of every clip.

    Whisper tells it, as in the paper's Fig. 8, and can write English subtitles for the survey.

    Run the same command again to resume.
    """
    need_file(questions, "--questions", "benchmark file")
    need_file(whisper, "--whisper", "Whisper model")
    need_path(media, "--media", "folder of clips")
    store = store_of_clips(cache, media, needed=True)

    from avem.errors import PartialFailure
    from avem.evaluate.emorealm.questions import read_questions
    from avem.tools.prefs.languages import find_languages, load_listener

    videos = [question.video for question in read_questions(questions)]
    found = find_languages(
        videos, media, load_listener(whisper, device, translate=subtitles), out, store or DEFAULT_STORE
    )
    show(", ".join(f"{language} {count}" for language, count in found.counts.items()) or "No clip has speech.")
    show(f"The languages are in {out}; use them with --languages, --groups and --subtitles.")
    if found.failed:
        raise PartialFailure(f"{found.failed} clips have no language; {out} gives the reason for each.")


@emorealm_app.command("frames-study")
@prints_table()
def frames_study(
    references: Annotated[Path, typer.Option(help="EMER's CSV (name, reason), or JSON objects with id and reference.")],
    model: Annotated[str, typer.Option(help="Model that writes the captions.")],
    media: Annotated[
        Path | None,
        typer.Option(help="Folder of EMER's clips, or the one around it.", show_default="as recorded in --cache"),
    ] = None,
    cache: StoreOfClips = None,
    endpoint: Annotated[str, typer.Option(help="OpenAI-compatible address of the model.")] = "http://localhost:8000/v1",
    counts: Annotated[str, typer.Option(help="Numbers of frames, separated by commas.")] = "1,2,4,8,16",
    sbert: Annotated[
        str, typer.Option(help="Sentence-transformers model.")
    ] = "sentence-transformers/all-mpnet-base-v2",
    bertscore: Annotated[str, typer.Option(help="Model of BERTScore.")] = "roberta-large",
    layers: Annotated[
        int | None, typer.Option(help="Layer of BERTScore's model.", show_default="bert-score's own choice")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Folder with your own prompts.", show_default="the built-in ones")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Number of clips.", min=1, show_default="all")] = None,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    parallel: Parallel = 8,
    timeout: Timeout = 120.0,
    retries: Retries = 5,
    device: Annotated[str, typer.Option(help="Where similarity is computed: cpu or cuda.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Random seed of the bootstrap.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for captions and the table.")] = Path("./frames-study"),
    *,
    form: str,
) -> None:
    """Find out how many frames a caption needs.

    Compares captions from several numbers of frames with EMER's descriptions (B.4, Table 8).

    Needs the extra `similarity`. Run the same command again to resume.
    """
    need_file(references, "--references", "descriptions")
    need_path(media, "--media", "folder of clips")
    store = store_of_clips(cache, media, needed=True)
    need_path(prompts, "--prompts", "folder of prompts")
    folder_target(out, BENCH, reads=[references, prompts], roots=[media])
    need_endpoint(endpoint, saved=out)

    from avem.commands.tables import show_sheet
    from avem.endpoint.chat import ChatSettings
    from avem.errors import SettingError
    from avem.tools.prefs.frames_study import FramesOptions, load_scorer
    from avem.tools.prefs.frames_study import frames_study as study

    numbers = counts.split(",")
    if not all(number.strip().isdigit() for number in numbers):
        raise SettingError(f"--counts takes numbers separated by commas, not {counts!r}.")
    settings = ChatSettings(
        endpoint=endpoint, model=model, key_variable=key_variable, timeout_s=timeout, retries=retries, parallel=parallel
    )
    options = FramesOptions(
        references=references,
        media=media,
        cache=store or DEFAULT_STORE,
        model=settings,
        counts=tuple(map(int, numbers)),
        prompts=prompts,
        limit=limit,
        out=out,
        seed=seed,
    )
    show_sheet(study(options, load_scorer(sbert, bertscore, layers, device)), form)
