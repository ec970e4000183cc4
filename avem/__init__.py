"""avem: audiovisual emotion models trained and evaluated from a feature store.

The rooms are `avem.extract`, `avem.cache`, `avem.train`, `avem.evaluate` and `avem.tools`; `docs/architecture.md`
draws the house. Importing `avem` imports none of them.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str


def __getattr__(name: str) -> str:
    if name == "__version__":  # looked up when asked for: it takes longer than the rest of `avem --help`'s imports
        from importlib.metadata import version

        return version("avem")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
