"""`docs/paper.md`: every setting and option that it names as another reading is there and is accepted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from avem.cli import app
from avem.train.settings.config import PreferenceConfig
from avem.train.settings.presets import PREFERENCE_PRESETS
from avem.train.settings.sources import build_config

PAGE = (Path(__file__).parents[1] / "docs" / "paper.md").read_text(encoding="utf-8")
CHOICES = PAGE.split("## Choices")[1]
READINGS = [line.rstrip(" |").rpartition(" | ")[2] for line in CHOICES.splitlines() if line.startswith("| ")]
NAMED = sorted({part for reading in READINGS for part in re.findall(r"`([^`]+)`", reading)})
PATHS = {"cache": "cache", "model": "model", "out": "run", "prefs": "prefs.jsonl"}

WHERE_IT_COUNTS = {"diffusion_step": {"negatives": "diffused"}, "beta_er": PREFERENCE_PRESETS["er-irr"]}
"""Other settings of the table's row, without which an option changes nothing."""


def options(command) -> set[str]:
    """Every option of a command and of those below it."""
    own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return own.union(*map(options, getattr(command, "commands", {}).values()))


def test_the_table_is_found():
    assert len(READINGS) > 30
    assert {"lora_scale=0.5", "negatives=random-emotion", "accumulation=32", "--guess-model"} <= set(NAMED)


@pytest.mark.parametrize("named", NAMED)
def test_another_reading_is_a_setting_that_works(named):
    if named.startswith("--"):
        assert named.split()[0] in options(typer.main.get_command(app))
    elif "=" in named:
        option = named.partition("=")[0]
        usual = build_config(PreferenceConfig, PATHS, preset=WHERE_IT_COUNTS.get(option))
        changed = build_config(PreferenceConfig, usual.to_json(), overrides=[named])
        assert changed.identity() != usual.identity(), "it changes nothing"
    else:
        assert named in PREFERENCE_PRESETS


def test_the_literal_preset_is_what_the_page_marks():
    marked = [line for line in CHOICES.splitlines() if line.startswith("| * ")]
    said = {part for line in marked for part in re.findall(r"`(\w+)=", line)}
    assert said == PREFERENCE_PRESETS["paper-exact"].keys() - {"batch_size"}
