"""`avem emorealm`: what belongs to the benchmark besides building and answering it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avem.commands.data.prefs import emorealm_app
from avem.commands.options import NONE, KeyVariable, Parallel, QuestionsOption, Retries, Timeout
from avem.guards.inputs import need_file, need_path
from avem.guards.output_kinds import BENCH, SURVEY
from avem.guards.outputs import folder_target
from avem.text.terminal import show

Clips = Annotated[Path | None, typer.Option("--media", help="Folder of the clips.", show_default=NONE)]


@emorealm_app.command("subtasks")
def subtasks(
    model: Annotated[str, typer.Option(help="Model that says whether a cue is in the clip.")],
    questions: QuestionsOption = Path("./emorealm_v1.json"),
    endpoint: Annotated[str, typer.Option(help="OpenAI-compatible address of the model.")] = "http://localhost:8000/v1",
    media: Clips = None,
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
    """Label the stress questions whose answer is no: is the cue that they name in the clip?

    Writes OUT/subtasks.jsonl, which `avem bench emorealm --subtasks` reads. Run the same command again to resume.
    """
    need_file(questions, "--questions", "benchmark file")
    need_file(captions, "--captions", "file of captions")
    need_path(media, "--media", "folder of clips")
    folder_target(out, BENCH, reads=[questions, captions], roots=[media])
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
        CueOptions(questions=questions, model=settings, media=media, captions=captions, frames=frames, out=out)
    )
    for task, counts in labels.counts.items():
        show(f"{task}: " + (", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "none"))
    show(f"The labels are in {labels.path}; use them with --subtasks.")
    if survey is not None:
        options = SurveyOptions(source=labels.path, out=survey, media=media, sample=sample, seed=seed)
        items = make_cue_survey(read_questions(questions), read_subtasks(labels.path), options)
        show(f"{items} labels are in {survey}; `avem prefs votes {survey} ANSWERS... --out FILE` counts the votes.")
    check_complete(labels)
