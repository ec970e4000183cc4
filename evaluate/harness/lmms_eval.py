"""lmms-eval: one YAML file a variant, an index of question ids, and its sample logs read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avem.evaluate.harness.base import Harness
from avem.files import json_lines, read_json_lines
from avem.reading import open_regular

FUNCTIONS = ("doc_to_visual", "doc_to_text", "doc_to_target", "process_results")
METRICS = {"emorealm_accuracy": "accuracy", "emorealm_task_mean": "task_mean"}
FIRST_BYTES = 1 << 20


def files_of(folder: Path, ids: Mapping[str, list[str]]) -> dict[str, str]:
    """A YAML file and an index of ids for each variant."""
    found = {}
    for variant, names in ids.items():
        index = f"index_{variant}.jsonl"
        found[index] = json_lines({"id": name, "variant": variant} for name in names)
        found[f"emorealm_{variant}.yaml"] = _yaml(variant, folder / index)
    return found


def _yaml(variant: str, index: Path) -> str:
    functions = "".join(f"{name}: !function emorealm_utils.{name}\n" for name in FUNCTIONS)
    metrics = "".join(
        f"  - metric: {name}\n    aggregation: !function emorealm_utils.{by}\n    higher_is_better: true\n"
        for name, by in METRICS.items()
    )
    return (
        f"task: emorealm_{variant}\n"
        "tag: emorealm\n"
        "dataset_path: json\n"
        f"dataset_kwargs:\n  data_files:\n    test: {json.dumps(str(index))}\n"
        "test_split: test\n"
        "output_type: generate_until\n"
        f"{functions}"
        "cluster_key: video\n"
        "generation_kwargs:\n  max_new_tokens: 16\n  temperature: 0\n  do_sample: false\n"
        f"metric_list:\n{metrics}"
        'lmms_eval_specific_kwargs:\n  default:\n    pre_prompt: ""\n    post_prompt: ""\n'
        "metadata:\n  - version: 1.0\n"
    )


def recognises(path: Path) -> bool:
    """Whether a JSON Lines file has the fields of lmms-eval's sample logs."""
    if path.suffix != ".jsonl" or not path.is_file():
        return False
    with open_regular(path) as file:
        head = file.readline(FIRST_BYTES)
    return b'"doc_id"' in head and b'"filtered_resps"' in head


def read(path: Path) -> list[tuple[str, str]]:
    """Question ids and replies of a sample log (`--log_samples`).

    Raises:
        DataError: A line has no reply, or is of another task.
    """
    return read_json_lines(path, _pair)


def _pair(entry: dict[str, Any]) -> tuple[str, str]:
    item = entry.get("emorealm_accuracy")
    if not isinstance(item, dict) or "id" not in item:
        raise ValueError("it has no emorealm_accuracy with an id; run the tasks that `avem emorealm export` wrote")
    reply = entry["filtered_resps"]
    while isinstance(reply, list) and len(reply) == 1:
        reply = reply[0]
    if not isinstance(reply, str):
        raise ValueError("filtered_resps holds no single reply; run without repeats")
    return str(item["id"]), reply


HARNESS = Harness(
    "lmms-eval",
    "emorealm_utils.py",
    "lmms-eval --include_path {folder} --tasks emorealm_audiovisual --log_samples --output_path logs --model ...",
    "sample log (..._samples_emorealm_audiovisual.jsonl)",
    recognises,
    read,
    files_of,
)
