"""Task defaults: where each task's data lie, and the values of variables that depend on the task or the data.

Only the standard library and modules that keep to it are imported, as in `settings`.
"""

import os

from rounds.artifacts import object_storage
from rounds.data.source import PROMPT_TASK

SAMPLES = {
    "eedi": "data/sample",
    "pairs": "data/sample-pairs/pairs.csv",
    "kbvqa": "data/sample-kbvqa",
    PROMPT_TASK: "data/sample-rewrites",
}
SAMPLE_OUTSIDE = "data/sample-outside/outside.csv"
SAMPLE_PER_OUTSIDE = 3  # questions of the sample per generated outside question
# Where make download puts a task's data, and a file that is there when it has.
DOWNLOADED = "data/raw"
DOWNLOADED_PROMPTS = "data/raw-prompts"
DOWNLOADS = {"eedi": f"{DOWNLOADED}/train.csv", PROMPT_TASK: f"{DOWNLOADED_PROMPTS}/train.csv"}
COMPETITIONS = {
    "eedi-mining-misconceptions-in-mathematics": DOWNLOADED,
    "llm-prompt-recovery": DOWNLOADED_PROMPTS,
}
RECIPES = (
    "minilm",
    "minilm-lora",
    "minilm-ia3",
    "minilm-bottleneck",
    "minilm-prompt",
    "minilm-p_tuning",
    "minilm-prefix",
    "minilm-splade",
    "minilm-tokens",
)
TASK_DEFAULTS: dict[str, dict[str, object]] = {
    "beir": {"model": "minilm-beir", "precision": "fp32"},  # published scores are fp32's
    PROMPT_TASK: {"model": "tiny-generator", "competition": "llm-prompt-recovery"},
    "kbvqa": {
        "model": "kbvqa",
        "recipes": (
            "kbvqa-prompt",
            "kbvqa-prompt-shared",
            "kbvqa-bottleneck-flat",
            "kbvqa-bottleneck",
            "kbvqa-projection",
            "kbvqa-words",
            "kbvqa-words-then-pictures",
            "kbvqa",
        ),
    },
}
# Second stages train on several folds; on the generated sample each of them does less.
SMALLER_ON_SAMPLE = ("rerank", "cv", "best", "distil", "pseudo_label")
SAMPLE_DEFAULTS: dict[str, object] = {"round": 1, "epochs": 1, "folds": (0, 1), "tune_flags": "--group_size 4"}


def project_path(path: str) -> str:
    """Return a path as the defaults spell theirs: relative where it lies in the project, without `./` and a last slash.

    >>> project_path("./data/raw/"), project_path(f"{os.getcwd()}/data/raw"), project_path("s3://bucket/raw/")
    ('data/raw', 'data/raw', 's3://bucket/raw')
    """
    plain, parts = path.rstrip("/") or path, path.split("/")
    if not path or object_storage.is_url(path) or os.pardir in parts:  # behind a link, `..` is the link's target's
        return plain
    inside = os.path.relpath(path)
    return plain if os.pardir in inside.split("/") else inside
