"""Checks of settings: ranges, and parts of an objective that do not go together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from avem.errors import SettingError

if TYPE_CHECKING:
    from avem.train.settings.config import PreferenceConfig, RunConfig


def require(holds: bool, option: str, value: Any, what: str) -> None:
    """Refuse a value.

    Raises:
        SettingError: It does not hold; the message says what the option must be.
    """
    if not holds:
        raise SettingError(f"{option} is {value}; it must be {what}.")


def above_zero(config: RunConfig, *options: str) -> None:
    """Refuse options that are 0 or less; raises as `require`."""
    for option in options:
        require(getattr(config, option) > 0, option, getattr(config, option), "above 0")


def not_negative(config: RunConfig, *options: str) -> None:
    """Refuse options below 0; raises as `require`."""
    for option in options:
        require(getattr(config, option) >= 0, option, getattr(config, option), "0 or more")


def check_objective(config: PreferenceConfig) -> None:
    """Refuse parts of an objective that do not go together.

    Raises:
        SettingError: A value is out of its range, or two settings contradict each other; the message names them.
    """
    not_negative(config, "target_margin", "anchor", "nll", "invariance", "sensitivity")
    wrong = config.label_smoothing
    require(0 <= wrong < 0.5, "label_smoothing", wrong, "a share of wrong preferences, from 0 up to but not 0.5")
    if wrong and config.loss not in ("sigmoid", "robust"):
        raise SettingError(f"label_smoothing is for loss=sigmoid or loss=robust; set it to 0 for loss={config.loss}.")
    if config.loss == "robust" and not wrong:
        raise SettingError("loss=robust without label_smoothing is loss=sigmoid; set label_smoothing, such as 0.1.")
    if config.target_margin and config.loss != "simpo":
        raise SettingError(f"target_margin is SimPO's; set loss=simpo, or target_margin=0 for loss={config.loss}.")
    if config.loss == "simpo":
        with_reference = ("gamma_tpd", "lambda_av", "anchor", "invariance", "sensitivity")
        if used := [name for name in with_reference if getattr(config, name)]:
            raise SettingError(f"loss=simpo has no reference and no prior, and {used[0]} needs one; set {used[0]}=0.")
    if config.decouples:
        _check_decoupling(config)


def _check_decoupling(config: PreferenceConfig) -> None:
    if config.loss == "ipo":
        raise SettingError("invariance and sensitivity follow from a sigmoid; set loss=sigmoid, or both of them to 0.")
    if config.streams != "both":
        raise SettingError(
            f"invariance and sensitivity need both sides of a clip; set streams=both, not {config.streams}."
        )
    most = config.beta + config.invariance
    if config.sensitivity >= most:
        raise SettingError(
            f"sensitivity is {config.sensitivity}; it must be below beta + invariance = {most:g}, or the objective has "
            "no optimum."
        )
