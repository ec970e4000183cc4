"""Options that `avem prefs build`, `avem emorealm build` and `avem instruct build` have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from avem.commands.options import ALL

EndpointUrl: TypeAlias = Annotated[str, typer.Option("--endpoint", help="OpenAI-compatible address of the model.")]
AudioModel: TypeAlias = Annotated[
    str,
    typer.Option(
        "--audio-model", help="Model that writes the captions of the sound.", show_default="the same as --model"
    ),
]
KeyVariable: TypeAlias = Annotated[
    str, typer.Option("--key-variable", help="Environment variable that holds the endpoint's key.")
]
DatasetLayout: TypeAlias = Annotated[
    str | None,
    typer.Option("--dataset", help="Name of the dataset's layout, if it is not recognised.", show_default="recognised"),
]
SplitOption: TypeAlias = Annotated[
    str | None, typer.Option("--split", help="Only clips of this split.", show_default=ALL)
]
PromptsFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option("--prompts", help="Folder with your own prompts.", show_default="the built-in ones"),
]
FramesOption: TypeAlias = Annotated[int, typer.Option("--frames", help="Number of frames to send per clip.", min=1)]
BlurCaptions: TypeAlias = Annotated[
    str,
    typer.Option(
        "--blur-captions",
        help="auto: find burnt-in captions and blur them; off; or the share of each frame to blur, from the bottom.",
    ),
]
ParallelRequests: TypeAlias = Annotated[int, typer.Option("--parallel", help="Number of requests at a time.", min=1)]
RetriesOption: TypeAlias = Annotated[int, typer.Option("--retries", help="How often to retry a failed request.", min=0)]
TimeoutOption: TypeAlias = Annotated[float, typer.Option("--timeout-s", help="Seconds to wait for a reply.")]
TemperatureOption: TypeAlias = Annotated[
    float, typer.Option("--temperature", help="Sampling temperature of every request.", min=0.0)
]
ResponseFormat: TypeAlias = Annotated[
    str, typer.Option("--response-format", help="none, or json_object if the server supports it.")
]
BatchOption: TypeAlias = Annotated[
    bool, typer.Option("--batch", help="Write request files for the provider's batch service instead of sending.")
]
PriceIn: TypeAlias = Annotated[float, typer.Option("--price-in", help="Price of a million prompt tokens.", min=0.0)]
PriceOut: TypeAlias = Annotated[float, typer.Option("--price-out", help="Price of a million reply tokens.", min=0.0)]
EmotionTolerance: TypeAlias = Annotated[
    float,
    typer.Option("--emotion-tolerance", help="Allowed difference in emotion shares between the rows and the dataset."),
]
RequestSeed: TypeAlias = Annotated[
    int, typer.Option("--seed", help="Random seed, which is also sent with every request.")
]
