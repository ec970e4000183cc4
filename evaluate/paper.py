"""The paper's figures (Tables 2, 3, 13 and 19), shown next to results and marked as the paper's."""

from __future__ import annotations

from dataclasses import dataclass

COLUMNS = (
    "reasoning_basic_audio",
    "reasoning_basic_video",
    "modality_agreement",
    "reasoning_stress_audio",
    "reasoning_stress_video",
)
"""Accuracy for the basic tasks, F1 for the others."""


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One model's row: `values` in the order of `COLUMNS`, and Table 13's average accuracy, all in percent."""

    model: str
    values: tuple[float, ...]
    average: float


TABLE_3 = (
    PaperRow("VideoLLaMA2", (63.1, 66.8, 52.5, 53.2, 58.4), 59.1),
    PaperRow("OLA", (63.2, 60.4, 42.7, 56.6, 54.8), 60.2),
    PaperRow("VITA-1.5", (63.1, 84.3, 30.2, 52.8, 56.3), 65.6),
    PaperRow("Qwen 2.5 Omni", (76.8, 89.2, 33.3, 55.0, 56.8), 70.0),
    PaperRow("The paper's base", (69.2, 85.3, 34.6, 50.3, 59.9), 65.1),
    PaperRow("+ Naive-DPO", (71.3, 85.9, 41.6, 54.8, 65.9), 68.1),
    PaperRow("+ Vista-DPO", (72.4, 87.8, 52.1, 73.6, 86.7), 76.9),
    PaperRow("+ AVEm-DPO", (77.9, 92.5, 60.0, 80.9, 94.6), 83.3),
    PaperRow("EmotionLLaMA*", (64.8, 84.9, 33.1, 46.7, 63.2), 63.8),
    PaperRow("+ Naive-DPO", (67.2, 85.7, 42.8, 52.6, 67.6), 66.9),
    PaperRow("+ Vista-DPO", (69.0, 86.9, 40.9, 68.6, 87.3), 74.2),
    PaperRow("+ AVEm-DPO", (76.5, 89.9, 56.8, 75.4, 91.7), 80.1),
)
"""Rows of Table 3 with the averages of Table 13, rows with a plus below the model they were tuned from."""


@dataclass(frozen=True, slots=True)
class PaperNumbers:
    """One model's numbers on an emotion set, in percent (EMER: grades), in the order of that table's columns."""

    model: str
    values: tuple[float, ...]


RECOGNITION_COLUMNS = {
    "dfew": ("UAR", "WAR"),
    "ravdess": ("UAR", "WAR", "video: UAR", "WAR", "audio: UAR", "WAR"),
    "mer2023": ("weighted F1",),
}
"""What the paper reports of each set (Table 2; for RAVDESS Table 19)."""

RECOGNITION = {
    "dfew": (
        PaperNumbers("Qwen 2.5 Omni", (46.94, 54.34)),
        PaperNumbers("The paper's base", (56.78, 60.14)),
        PaperNumbers("+ AVEm-DPO", (58.54, 64.24)),
        PaperNumbers("EmotionLLaMA*", (54.89, 58.26)),
        PaperNumbers("+ AVEm-DPO", (57.06, 62.12)),
    ),
    "ravdess": (
        PaperNumbers("VideoLLaMA 2", (41.81, 31.62, 36.12, 32.41, 30.44, 27.56)),
        PaperNumbers("Qwen 2.5 Omni", (32.88, 28.05, 29.38, 27.67, 28.56, 25.55)),
        PaperNumbers("The paper's base", (53.59, 53.01, 41.27, 40.98, 38.18, 37.74)),
        PaperNumbers("+ AVEm-DPO", (58.66, 55.48, 46.13, 46.31, 44.05, 39.67)),
        PaperNumbers("EmotionLLaMA*", (52.59, 48.12, 41.27, 39.56, 38.57, 37.27)),
        PaperNumbers("+ AVEm-DPO", (56.21, 51.03, 46.10, 43.09, 40.54, 37.04)),
    ),
    "mer2023": (
        PaperNumbers("Qwen 2.5 Omni", (79.72,)),
        PaperNumbers("The paper's base", (89.19,)),
        PaperNumbers("+ AVEm-DPO", (92.18,)),
        PaperNumbers("EmotionLLaMA*", (90.01,)),
        PaperNumbers("+ AVEm-DPO", (91.68,)),
    ),
}
"""Rows of Tables 2 and 19, rows with a plus below the model they were tuned from."""

EMER_COLUMNS = ("Clue", "Label", "Spurious")

EMER = (
    PaperNumbers("Qwen 2.5 Omni", (5.85, 6.78, 6.39)),
    PaperNumbers("The paper's base", (5.63, 6.45, 5.41)),
    PaperNumbers("+ AVEm-DPO", (6.37, 7.08, 7.09)),
    PaperNumbers("EmotionLLaMA*", (5.78, 6.21, 5.36)),
    PaperNumbers("+ AVEm-DPO", (6.02, 6.99, 7.02)),
)
"""Grades of Table 2, 1 to 10, by the paper's own judge and wording."""
