"""How multiple-choice questions become instruction rows."""

from __future__ import annotations

from typing import Literal

Style = Literal["letters", "open"]
"""`letters`: options in the question, the right one as the answer. `open`: the question alone, answered in words."""
