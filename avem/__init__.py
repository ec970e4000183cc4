"""avem: audiovisual emotion models trained and evaluated from a feature store.

The rooms are `avem.extract`, `avem.cache`, `avem.train`, `avem.evaluate` and `avem.tools`; `docs/architecture.md`
draws the house. Importing `avem` imports none of them.
"""

from importlib.metadata import version

__version__ = version("avem")
