"""What the pages say about training curves: titles, names and a sentence for each panel."""

from __future__ import annotations

PANELS = (
    ("Loss", ("loss", "*loss*")),
    ("Rewards", ("reward*", "*rewards*")),
    ("Margin", ("*margin*",)),
    ("Share of pairs ranked right", ("*accuracy*",)),
    ("log p(answer) lost on other input", ("reliance*",)),
)
"""Title of each panel of a run and the names of the metrics it shows."""

NAMES = {
    "loss": "loss",
    "margin": "response (Eq. 10)",
    "input_margin": "input (Eq. 5)",
    "accuracy": "response",
    "input_accuracy": "input",
    "reward_w": "chosen",
    "reward_vr": "rejected, irrelevant cue",
    "reward_er": "rejected, absent cue",
    "reward_irr": "rejected, off the point",
    "reward_w_given_l": "chosen, on another clip",
    "reward_l": "rejected, weighted",
    "held_loss": "held-out clips",
    "held_margin": "response, held-out clips",
    "held_input_margin": "input, held-out clips",
    "held_accuracy": "response, held-out clips",
    "held_input_accuracy": "input, held-out clips",
    "reliance": "the rejected input",
    "reliance_irrelevant": "the side not asked about, replaced",
    "reliance_relevant": "the side asked about, replaced",
    "reliance_audio": "another clip's audio",
    "reliance_video": "another clip's video",
}
"""Metrics of preference training as a run's panels call them; others keep their names."""

COMPARED = {
    "loss": "Loss",
    "held_loss": "Loss, held-out clips",
    "margin": "Response margin (Eq. 10)",
    "input_margin": "Input margin (Eq. 5)",
    "accuracy": "Responses ranked right",
    "input_accuracy": "Inputs ranked right",
    "held_accuracy": "Responses ranked right, held-out clips",
    "held_input_accuracy": "Inputs ranked right, held-out clips",
    "reward_w": "Reward of the chosen answer",
    "reward_l": "Reward of what is rejected",
    "reward_vr": "Reward of the video-relevant rejected answer",
    "reward_er": "Reward of the emotion-relevant rejected answer",
    "reward_irr": "Reward of the irrelevant rejected answer",
    "reliance": "log p(answer) lost on the rejected input",
    "reliance_irrelevant": "log p(answer) lost where the side not asked about is replaced",
    "reliance_relevant": "log p(answer) lost where the side asked about is replaced",
    "reliance_audio": "log p(answer) lost on another clip's audio",
    "reliance_video": "log p(answer) lost on another clip's video",
    "grad_norm": "Gradient norm",
}
"""Metrics that runs are compared by, and the titles of their panels."""

NATS = frozenset(name for name in NAMES if name.startswith("reliance"))
"""Metrics that are differences of log-probabilities."""

_HELD = " Measured at each checkpoint on clips that are not trained on."
_LOST = (
    "How much more probable the right answer is on its own clip. At 0 nats it is as probable on the other input: the "
    "model ignores the difference."
)
_REJECTED = (
    "It should fall below the chosen answer's and below 0. One that ends above 0 has become more probable: another "
    "rejected answer satisfied the loss for both."
)
_SWAPPED = (
    " Another clip's audio or video is tried on a few rows, whatever their question is about; a question about the "
    "face should not lose on other audio. The command avem probe swap measures it on a whole benchmark."
)

SENTENCES = {
    "Loss": "What training lowers. The loss on held-out clips is measured at each checkpoint; where it rises while the "
    "other falls, the model is overfitting.",
    "Rewards": "How much more probable an answer is than before training, in nats times beta. The chosen answer should "
    "stay above the rejected ones; if it falls below 0, it is less probable than before.",
    "Margin": "By how much the right side wins: the chosen answer over the rejected ones (response), and its own clip "
    "over the rejected one (input). Below 0, the wrong side wins.",
    "Share of pairs ranked right": "How often the margin is above 0. 1 is all rows; an untrained model is at chance, "
    "which is not always 0.5.",
    "log p(answer) lost on other input": _LOST + _SWAPPED,
    "Loss, held-out clips": "Lower is better; a rise while the training loss falls is overfitting." + _HELD,
    "Response margin (Eq. 10)": "By how much the chosen answer wins over the rejected ones. Below 0, they win.",
    "Input margin (Eq. 5)": "By how much the answer prefers its own clip to the rejected one. Below 0, it does not.",
    "Responses ranked right": "Share of rows whose response margin is above 0.",
    "Inputs ranked right": "Share of rows whose input margin is above 0.",
    "Responses ranked right, held-out clips": "Share of rows whose response margin is above 0." + _HELD,
    "Inputs ranked right, held-out clips": "Share of rows whose input margin is above 0." + _HELD,
    "Reward of the chosen answer": "Below 0, the chosen answer is less probable than before training.",
    "Reward of what is rejected": "It should fall below the chosen answer's.",
    "Reward of the video-relevant rejected answer": _REJECTED,
    "Reward of the emotion-relevant rejected answer": _REJECTED,
    "Reward of the irrelevant rejected answer": _REJECTED,
    "log p(answer) lost on the rejected input": _LOST,
    "log p(answer) lost where the side not asked about is replaced": "It should be 0: MoD-DPO's invariance.",
    "log p(answer) lost where the side asked about is replaced": _LOST + " MoD-DPO's sensitivity raises it.",
    "log p(answer) lost on another clip's audio": _LOST + _SWAPPED,
    "log p(answer) lost on another clip's video": _LOST + _SWAPPED,
    "Gradient norm": "Length of the gradient before it is clipped. Peaks mark steps that pulled hard.",
}
"""What a panel of this title shows, and how to read it."""


def says(title: str) -> str:
    """The sentence below a panel; empty for a title of somebody's own."""
    return SENTENCES.get(title, "")


def shown_name(metric: str) -> str:
    """A metric as a run's panels call it."""
    return NAMES.get(metric, metric.replace("_", " "))
