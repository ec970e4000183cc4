"""Asking: from options to a model that answers, and from clips to their answers; one bad clip stops no other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from avem.errors import AvemError, DataError, EndpointError, MediaError, MissingFileError, PromptError, UnknownClipError
from avem.tools.ask.inputs import AskedClip
from avem.tools.ask.results import AskedModel, ClipAnswer, Known
from avem.tools.ask.settings import AskOptions

OF_A_CLIP = (MediaError, DataError, UnknownClipError, PromptError, MissingFileError)
"""Errors that are about one clip; all others would come again with the next."""


class AskSession(Protocol):
    """A model that is asked about clips, loaded once."""

    @property
    def about(self) -> AskedModel:
        """The model."""

    def identity(self) -> dict[str, Any]:
        """Everything besides the clip and the question that answers depend on, as JSON."""

    def content(self, clip: AskedClip) -> dict[str, Any]:
        """Everything of a clip that answers depend on, as JSON; raises as `ask`."""

    def known(self, clip: AskedClip, questions: Sequence[str]) -> Known:
        """What is known of a clip that `ask` can answer, and of the model; `ask` gives it with its answer."""

    def ask(self, clip: AskedClip, questions: Sequence[str], against: AskedClip | None = None) -> ClipAnswer:
        """Ask about one clip; see `avem.tools.ask.features.FeatureSession.ask`."""


def open_session(options: AskOptions) -> AskSession:
    """Load the model that the options name: at an endpoint, of one of avem's families, or by its adapter.

    Raises:
        AvemError: It can't be used.

    Example:
        >>> session = open_session(AskOptions(model="runs/avem-dpo"))  # doctest: +SKIP
        >>> session.ask(AskedClip("clip.mp4", Path("clip.mp4")), ["What does she feel?"])  # doctest: +SKIP
    """
    from avem.evaluate.predict.loading import open_media_model
    from avem.tools.ask.features import FeatureSession
    from avem.tools.ask.media import MediaSession

    if options.endpoint is not None or options.media or not _reads_features(options.model):
        found = open_media_model(options.model, options.endpoint, options.device, options.precision, options.system)
        if found is not None:
            kind = "behind an endpoint" if options.endpoint is not None else "shown media files by its adapter"
            return MediaSession(options, found, kind)
    return FeatureSession(options)


def ask_all(
    session: AskSession, clips: Sequence[AskedClip], questions: Sequence[str], against: AskedClip | None = None
) -> Iterator[ClipAnswer]:
    """Ask about one clip after another; one that can't be used is an answer with `failed`.

    Raises:
        AvemError: Whatever would stop the other clips as well, or is wrong with the only clip.
    """
    for clip in clips:
        try:
            yield session.ask(clip, questions, against)
        except (*OF_A_CLIP, EndpointError) as error:
            if len(clips) == 1 or (isinstance(error, EndpointError) and error.stops_all):
                raise _named(clip, error) from error
            yield ClipAnswer(clip.name, clip.path, failed=str(error))


def _named(clip: AskedClip, error: AvemError) -> AvemError:
    """The same error with the clip's name in it."""
    said = str(error)
    if clip.name in said or isinstance(error, EndpointError):
        return error
    return type(error)(f"{clip.name}: {said if said.endswith('.') else f'{said}.'}")


def _reads_features(model: str) -> bool:
    """Whether avem trains models of this kind, so that they read features."""
    from avem.locate import locate_model
    from avem.reading import read_json
    from avem.train.checkpoints.load import finished
    from avem.train.families.registry import find_family
    from avem.train.model.saving import ADAPTER_TYPE

    config = finished(locate_model(model, "--model")) / "config.json"
    if not config.is_file():
        return True  # loading says what is wrong
    settings = read_json(config, dict)
    return settings.get("model_type") == ADAPTER_TYPE or find_family(settings) is not None
