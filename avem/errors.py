"""What can go wrong for a reason the user can fix.

Each error says in one sentence what is wrong, where, and what to do. The command line shows that sentence and ends
with `exit_status`; from Python they are ordinary exceptions, some of which are also the built-in that fits.
"""

from avem.guards.secrets import mask


class AvemError(Exception):
    """Base of every error that a user can fix."""

    exit_status = 2

    def __str__(self) -> str:
        return mask(str(self.args[0])) if self.args else type(self).__name__


class SettingError(AvemError, ValueError):
    """An option or a setting that is wrong by itself or contradicts another."""


class MissingFileError(AvemError, FileNotFoundError):
    """A file, folder or model that is needed and is not there."""


class WriteError(AvemError, OSError):
    """A file that can't be written: the disk is full or read-only, or permission is denied."""


class DataError(AvemError, ValueError):
    """A file whose content is not what its format says: the message names the file and the position in it."""


class MediaError(AvemError):
    """A clip that can't be decoded; extraction records it and continues."""


class StoreError(AvemError):
    """A feature store that can't be read or written as asked."""


class UnknownClipError(StoreError, KeyError):
    """A clip id that the store does not hold."""


class FingerprintError(StoreError):
    """Features made by another encoder, or in another way, than the model expects."""


class CheckpointError(AvemError):
    """A model checkpoint with missing, extra or misshapen parts."""


class DivergedError(AvemError):
    """A loss, a gradient or a score of training is not a finite number any more."""


class PromptError(AvemError, ValueError):
    """A prompt that can't be tokenised as asked, or does not fit the model's context."""


class EndpointError(AvemError):
    """A model behind a URL that gave no usable reply.

    Args:
        sentence: What happened, where, and what to do.
        stops_all: Whether every later request would fail too (a wrong key, an unknown model, no credit left).
    """

    def __init__(self, sentence: str, *, stops_all: bool = False) -> None:
        super().__init__(sentence)
        self.stops_all = stops_all


class PartialFailure(AvemError):
    """The run is complete but some clips failed; the ledger says why."""

    exit_status = 3
