"""`avem utterances`: clips of IEMOCAP's utterances."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avem.guards.inputs import need_path
from avem.text.terminal import show


def utterances(
    root: Annotated[Path, typer.Argument(help="IEMOCAP's folder, with Session1 to Session5.")],
    out: Annotated[Path, typer.Argument(help="Folder for the clips.")],
) -> None:
    """Cut IEMOCAP's dialogues into one clip for each utterance.

    A clip shows the half of the picture with the speaker, and has the utterance's own sound. `avem extract OUT` reads
    them. Run the same command again to resume.
    """
    need_path(root, "ROOT", "folder of IEMOCAP")

    from avem.errors import PartialFailure
    from avem.extract.utterances import cut_utterances

    made = cut_utterances(root, out)
    show(f"{made.cut} utterances are in {out}.")
    if made.failed:
        name, reason = next(iter(made.failed.items()))
        raise PartialFailure(f"{len(made.failed)} dialogues were not cut ({name}: {reason})")
