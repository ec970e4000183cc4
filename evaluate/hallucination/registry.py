"""The yes/no benchmarks, one file each."""

from __future__ import annotations

from avem.evaluate.hallucination import avhbench, cmm, emotionhallucer
from avem.evaluate.hallucination.base import YesNoSet

YES_NO_SETS: dict[str, YesNoSet] = {module.SET.name: module.SET for module in (avhbench, cmm, emotionhallucer)}
