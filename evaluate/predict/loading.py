"""From a model's name on the command line to a model that can predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avem.endpoint.chat import ChatSettings
from avem.errors import MissingFileError, SettingError
from avem.evaluate.predict.adapters import adapter_class, adapter_for, load_adapter
from avem.evaluate.predict.endpoint import EndpointModel
from avem.evaluate.predict.media_model import FRAMES, MediaModel
from avem.guards.devices import find_device
from avem.locate import locate_model
from avem.reading import read_json
from avem.text.escaping import file_name

if TYPE_CHECKING:
    from avem.train.families.base import FamilyModel

FOUR_BIT = "4bit"
"""The precision that keeps a language model's linear layers in 4 bits and takes products as `auto` does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointOptions:
    """An endpoint that runs models, and what they are sent."""

    url: str
    """Base address, such as `http://localhost:8000/v1`."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key."""
    parallel: int = 8
    timeout_s: float = 120.0
    retries: int = 5
    frames: int = FRAMES
    sound: bool = True
    """Whether sound is sent; not every server takes it."""
    system: str = ""
    """System message of every request; empty for none."""

    def model(self, name: str) -> EndpointModel:
        """The model of that name behind the address."""
        settings = ChatSettings(
            endpoint=self.url,
            model=name,
            key_variable=self.key_variable,
            timeout_s=self.timeout_s,
            retries=self.retries,
            parallel=self.parallel,
        )
        return EndpointModel(settings, self.frames, ("video", "audio") if self.sound else ("video",), self.system)


def open_media_model(
    name_or_path: str,
    endpoint: EndpointOptions | None,
    device: str = "auto",
    precision: str = "auto",
    system: str | None = None,
    *,
    cache: Path | None = None,
) -> MediaModel | None:
    """A model that is shown media files: behind an endpoint, or one that an adapter runs; None for any other.

    A model that avem trains reads the store's features instead, where the store holds them: so a base and what was
    trained from it see the same frames.

    Args:
        name_or_path: A folder, a hub id, or the model's name at the endpoint.
        endpoint: Where it answers, if not here.
        device: See `open_model`.
        precision: See `open_model`.
        system: System message; None for the one of its vendor's example.
        cache: A store that may hold the model's features; None to show media files in any case.

    Raises:
        MissingFileError: There is no such model.
        SettingError: A setting of the endpoint can't work, or this model has no such precision or system message.
    """
    if endpoint is not None:
        return (endpoint if system is None else replace(endpoint, system=system)).model(name_or_path)
    check_model(name_or_path)
    kind = adapter_for(name_or_path)
    if kind is None or (cache is not None and _holds_features(cache, name_or_path)):
        return None
    if precision == FOUR_BIT:
        raise SettingError(
            f"{name_or_path} is shown media files, and 4bit is for models that read features; choose bfloat16."
        )
    if system and not adapter_class(kind).takes_system:
        raise SettingError(f"{name_or_path} takes no system message beside sound; leave --system out.")
    device = choose_device(device)
    adapter = load_adapter(name_or_path, device, choose_dtype(precision, device))
    adapter.system = adapter.system if system is None else system
    return adapter


def _holds_features(cache: Path, name_or_path: str) -> bool:
    """Whether there is a store at `cache` with streams of the family of a model that avem trains."""
    from avem.cache import FeatureStore
    from avem.train.families.registry import find_family

    if ":/" not in str(cache) and not cache.expanduser().is_dir():
        return False
    family = find_family(read_json(locate_model(name_or_path, "--model") / "config.json", dict))
    return family is not None and any(name.endswith(f"/{family.name}") for name in FeatureStore.open(cache).streams)


def open_model(name_or_path: str, device: str = "auto", precision: str = "auto") -> FamilyModel:
    """Load a model that reads features.

    Args:
        name_or_path: A folder or a hub id.
        device: `cpu`, `cuda`, ...; `auto` takes a GPU if there is one.
        precision: `auto` (float32 on a CPU, else bfloat16), `float32`, `bfloat16`, `float16`, or on a GPU `4bit`.

    Raises:
        MissingFileError: There is no model.
        SettingError: There is no such precision, or 4 bits are not supported here.
    """
    from avem.train import load_model

    check_model(name_or_path)
    device = choose_device(device)
    dtype = choose_dtype(precision, device)
    return load_model(name_or_path, device=device, dtype=dtype, four_bit=precision == FOUR_BIT)


def check_model(name_or_path: str) -> None:
    """Refuse a path that does not exist.

    Raises:
        MissingFileError: The path does not exist.
    """
    if name_or_path.startswith((".", "/")) and not Path(name_or_path).exists():
        raise MissingFileError(
            f"There is no model at {name_or_path}; train one with `avem train`, or give a model's folder with --model."
        )


def choose_device(device: str) -> str:
    """The device that `auto` means here, or the one that was named.

    Raises:
        SettingError: It is not there.
    """
    return str(find_device(device))


def choose_dtype(precision: str, device: str) -> Any:
    """The torch dtype that products are taken in under a precision on a device.

    Raises:
        SettingError: There is no such precision.
    """
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    known["auto"] = known[FOUR_BIT] = torch.float32 if device == "cpu" else torch.bfloat16
    if precision not in known:
        raise SettingError(f"There is no precision {precision!r}; choose one of {', '.join(known)}.")
    return known[precision]


def short_names(models: Sequence[str]) -> list[str]:
    """A distinct short name for each model: its folder's, or the run's where that is `final` or a checkpoint."""
    names: list[str] = []
    for model in models:
        parts = [part for part in Path(model).parts if part not in ("final", "checkpoints", "result.json", "/", ".")]
        name = file_name(parts[-1]) if parts else "model"
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    return names
