"""`avem prefs survey` and `votes`, and `avem study`: pages for annotators, and what their votes come to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avem.commands.data.instruct import instruct_app
from avem.commands.data.prefs import prefs_app as prefs_app
from avem.commands.options import ALL, NONE, ReportFormat, StoreOfClips, prints_table, store_of_clips
from avem.errors import SettingError
from avem.guards.inputs import need_file, need_path
from avem.guards.output_kinds import SURVEY
from avem.guards.outputs import folder_target
from avem.text.lists import counted
from avem.text.terminal import show, show_block

if TYPE_CHECKING:
    from avem.tools.prefs.survey.clips import SurveyClips

study_app = typer.Typer(no_args_is_help=True, help="Compare models' descriptions in a user study.")

MediaFolder = Annotated[
    Path | None,
    typer.Option(
        "--media",
        help="Folder of the clips, or the one around it; they are copied into the survey.",
        show_default="as recorded in --cache",
    ),
]
VotesOption = Annotated[int, typer.Option("--votes", help="Number of annotators who rate each item.")]
PerBooklet = Annotated[int, typer.Option("--per-booklet", help="Number of items per annotator.")]
AttentionEvery = Annotated[
    int, typer.Option("--attention-every", help="Number of items per attention check; 0 for no checks.")
]
PretestOption = Annotated[
    str,
    typer.Option(
        "--pretest", help="Test of annotators at the start: builtin, or a JSON Lines file.", show_default=NONE
    ),
]
SubtitlesOption = Annotated[
    Path | None,
    typer.Option("--subtitles", help="CSV with English subtitles of clips: video, subtitle.", show_default=NONE),
]
SampleOption = Annotated[
    int | None, typer.Option("--sample", help="Number of items or clips to sample.", min=1, show_default=ALL)
]
SurveySeed = Annotated[int, typer.Option("--seed", help="Random seed of the sample and the item order.")]
SurveyFolder = Annotated[Path, typer.Argument(help="The survey's folder.")]
ResultFiles = Annotated[list[Path], typer.Argument(help="Files saved from the page, or Label Studio exports.")]
AttentionShare = Annotated[
    float,
    typer.Option("--attention", help="Share of attention checks that an annotator must pass.", min=0.0, max=1.0),
]
PretestShare = Annotated[
    float,
    typer.Option("--pretest-share", help="Share of the pre-test that an annotator must get right.", min=0.0, max=1.0),
]


@study_app.callback()
def study() -> None:
    """Compare models' descriptions in a user study."""


def need_survey(survey: Path, results: list[Path]) -> None:
    """Refuse a survey's folder without key, or a file of votes that is not there.

    Raises:
        MissingFileError: Something is not there.
    """
    need_file(survey / "key.json", "SURVEY", "key of a survey")
    for file in results:
        need_file(file, "RESULTS", "file of votes")


def show_clips(clips: SurveyClips) -> None:
    """Say that a survey has no clips, or not all.

    Raises:
        PartialFailure: Some are missing.
    """
    if clips.remark:
        show(clips.remark)
    clips.check_complete()


@instruct_app.command()
@prefs_app.command()
def survey(
    source: Annotated[Path, typer.Argument(help="Preference rows, instruction rows, or a benchmark file.")],
    out: Annotated[Path, typer.Option(help="Folder to make.")] = Path("./survey"),
    media: MediaFolder = None,
    cache: StoreOfClips = None,
    votes: VotesOption = 3,
    per_booklet: PerBooklet = 40,
    attention_every: AttentionEvery = 10,
    verified: Annotated[
        Path | None, typer.Option(help="Verified benchmark questions to use as attention checks.", show_default=NONE)
    ] = None,
    pretest: PretestOption = "",
    subtitles: SubtitlesOption = None,
    sample: SampleOption = None,
    label_studio: Annotated[
        bool, typer.Option("--label-studio", help="Write Label Studio tasks instead of a page.")
    ] = False,
    seed: SurveySeed = 0,
) -> None:
    """Make a web page on which annotators rate rows or questions.

    The page works from a folder and needs no server.
    """
    need_file(source, "SOURCE", "benchmark, preference rows or instruction rows")
    need_file(verified, "--verified", "benchmark file")
    need_file(subtitles, "--subtitles", "file of subtitles")
    need_path(media, "--media", "folder of clips")
    store = store_of_clips(cache, media)
    folder_target(out, SURVEY, reads=[source, verified, subtitles], roots=[media])

    from avem.tools.prefs.survey.pages import SurveyOptions, make_survey

    made = make_survey(
        SurveyOptions(
            source=source,
            out=out,
            media=media,
            cache=store,
            votes=votes,
            per_booklet=per_booklet,
            attention_every=attention_every,
            verified=verified,
            pretest=pretest,
            subtitles=subtitles,
            sample=sample,
            label_studio=label_studio,
            seed=seed,
        )
    )
    number = counted(len(made.items), "item")
    show(f"{number} are in {out}; keep {out / 'key.json'} private, for it holds the correct answers.")
    show_clips(made.clips)


@instruct_app.command("votes")
@prefs_app.command("votes")
@prints_table(ReportFormat)
def read_votes(
    survey: SurveyFolder,
    results: ResultFiles,
    out: Annotated[
        Path | None, typer.Option(help="File for the rows or questions found correct.", show_default=NONE)
    ] = None,
    doubtful: Annotated[
        Path | None,
        typer.Option(help="File for those with a discrepancy, to be corrected by hand.", show_default=NONE),
    ] = None,
    corrections: Annotated[
        Path | None, typer.Option(help="Rows or questions corrected by hand, which are final.", show_default=NONE)
    ] = None,
    attention: AttentionShare = 0.75,
    pretest_share: PretestShare = 0.6,
    *,
    form: str,
) -> None:
    """Count the votes of a survey.

    Shows majorities, discrepancies, corrections and Krippendorff's alpha, as in Tables 6 and 7. Of a survey on
    subtasks, --out gets the labels that most annotators give.
    """
    need_survey(survey, results)
    need_file(corrections, "--corrections", "file of corrections")
    from dataclasses import asdict

    from avem.commands.data.prefs_tables import show_verdicts
    from avem.tools.prefs.survey.ballots import read_key
    from avem.tools.prefs.survey.cues import write_voted_labels
    from avem.tools.prefs.survey.votes import keep_verified, read_corrections, read_verdicts, write_doubtful

    kind = read_key(survey).get("kind", "rows")
    if kind == "study":
        raise SettingError(f"{survey} is a user study; count it with `avem study results`.")
    known = read_corrections(corrections)
    verdicts = read_verdicts(survey, results, attention, pretest_share, known)
    if form == "json":
        show_block(json.dumps([asdict(group) for group in verdicts.groups], indent=1))
    else:
        show_verdicts(verdicts)
    if doubtful is not None:
        show(f"{write_doubtful(survey, verdicts, doubtful)} with a discrepancy are in {doubtful}.")
    if out is not None and kind == "subtasks":
        show(f"{write_voted_labels(survey, results, out, attention, pretest_share)} labels are in {out}.")
    elif out is not None:
        show(f"{keep_verified(survey, verdicts, out, known)} are in {out}.")


@study_app.command("make")
def make(
    descriptions: Annotated[
        list[str],
        typer.Argument(help="Descriptions of each model, as FILE or NAME=FILE: JSON objects with id and text."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to make.")] = Path("./study"),
    media: MediaFolder = None,
    cache: StoreOfClips = None,
    suffix: Annotated[str, typer.Option(help="Added to clip ids without a suffix to get their files.")] = ".mp4",
    votes: VotesOption = 3,
    per_booklet: PerBooklet = 30,
    attention_every: AttentionEvery = 10,
    pretest: PretestOption = "",
    subtitles: SubtitlesOption = None,
    sample: SampleOption = None,
    seed: SurveySeed = 0,
) -> None:
    """Make a page that compares descriptions.

    Annotators see a clip and every model's description of it, without the models' names. The page asks for the best
    account of the emotion, the best link to its cues, and the most inconsistent description, as in the paper (E.4).
    """
    paths = [Path(given.rpartition("=")[2]) for given in descriptions]
    for path in paths:
        need_path(path, "DESCRIPTIONS", "descriptions")
    need_file(subtitles, "--subtitles", "file of subtitles")
    need_path(media, "--media", "folder of clips")
    store = store_of_clips(cache, media)
    folder_target(out, SURVEY, reads=[*paths, subtitles], roots=[media])

    from avem.tools.prefs.survey.pages import SurveyOptions
    from avem.tools.prefs.survey.study import make_study

    options = SurveyOptions(
        source=paths[0],
        out=out,
        media=media,
        cache=store,
        votes=votes,
        per_booklet=per_booklet,
        attention_every=attention_every,
        pretest=pretest,
        subtitles=subtitles,
        sample=sample,
        seed=seed,
    )
    made = make_study(descriptions, options, suffix)
    number = counted(made.blocks, "clip")
    show(f"Descriptions of {number} are in {out}; keep {out / 'key.json'} private, for it says which model wrote what.")
    show_clips(made.clips)


@study_app.command("results")
@prints_table()
def read_results(
    survey: SurveyFolder,
    results: ResultFiles,
    attention: AttentionShare = 0.75,
    pretest_share: PretestShare = 0.6,
    seed: Annotated[int, typer.Option(help="Random seed of the bootstrap.")] = 0,
    *,
    form: str,
) -> None:
    """Count how often each model was chosen.

    Shows shares with intervals over annotators, and their agreement (Tables 4 and 16).
    """
    need_survey(survey, results)

    from avem.commands.tables import show_sheet
    from avem.tools.prefs.survey.study import read_study

    found = read_study(survey, results, attention, pretest_share, seed=seed)
    show_sheet(found.sheet(), form)
    if found.failed and form == "table":
        show(f"The checks failed: {', '.join(found.failed)}.")
