"""Made-up rounds on folds of split v5, as the stages leave them: collections, checkpoints' manifests, evaluations."""

from pathlib import Path

import numpy as np
from helpers.manifests import checkpoint_manifest, finetune_manifest, mined_manifest
from helpers.tiny_task import make_task

from rounds.artifacts import hashing, store
from rounds.artifacts.manifests import Epoch, EvaluationManifest, Parent
from rounds.config.recipe import Prompts
from rounds.data import collection
from rounds.data.collection import Collection
from rounds.data.splits import Split
from rounds.evaluation import results
from rounds.evaluation.metrics import METRICS, summarize
from rounds.evaluation.results import ResultRow, RowKind

# The first wrong answer of each question has a misconception that only its fold has.
LABELS = {str(n): [str(10 + n // 5), str(n % 5), ""] for n in range(20)}


class FoldedProject:
    """A project in a folder, with `data/` and `model_output/`."""

    def __init__(self, folder: Path) -> None:
        self.data_root, self.model_output = folder / "data", folder / "model_output"

    def collection(
        self,
        fold: int,
        split_seed: int = 42,
        extra: tuple[str, ...] = (),
        edition: str | None = None,
        split: str = "v5",
        n_folds: int = 4,
    ) -> Path:
        """Write a fold of five questions; another seed moves each question to the next fold.

        Args:
            extra: Files of outside questions.
            edition: Stands for the content of these files; default: each fold's is another.
        """
        task = make_task(LABELS)
        groups = list(LABELS)
        validation = {groups[(5 * fold + number + split_seed - 42) % 20] for number in range(5)}
        config = {
            "data": {"train.csv": "aa"},
            "split": split,
            "seed": split_seed,
            "fold": fold,
            "prompts": {"latex": "keep"},
        }
        if n_folds != 4:
            config["n_folds"] = n_folds
        if extra:
            config["outside"] = {"files": [[name, edition or f"{name}{fold}"] for name in extra], "max_cosine": 0.9}
        made_from = {"fold": fold, "seed": split_seed, "extra_files": list(extra), "validation_version": split}
        made_from |= {"edition": edition} if edition else {}
        made_from |= {"n_folds": n_folds} if n_folds != 4 else {}
        folder = self.data_root / f"tiny-{hashing.made_from_digest(made_from)}" / f"validation_{split}"
        if not folder.exists():
            collection.write(
                task, Split(split, set(groups) - validation, validation), Prompts(), folder, config, made_from
            )
        return folder

    def round(self, name: str, fold: int, seed: int = 42, flags: dict | None = None, **data: object) -> Path:
        """Write a trained and evaluated round 1 and return its evaluation; scores are drawn by name and fold."""
        home, folder = self.model_output / f"{name}-{fold}" / "round1", self.collection(fold, **data)
        flags = {"temperature": 0.05, "epochs": 1, "seed": seed, "recipe": "tiny", **(flags or {})}
        made_from = {"script": "finetune", "round": 1, "train_data": f"digest {fold}", "seed": flags["seed"]}
        made_from["recipe"] = {"name": flags["recipe"], "training": {"temperature": flags["temperature"]}}
        epochs = [Epoch(folder=f"epoch_{n + 1}", metrics={}) for n in range(flags["epochs"])]
        store.write_manifest(
            _parent(home / "train") / store.MANIFEST,
            finetune_manifest(epochs=epochs, made_from=made_from, seconds=60.0, peak_mib=100.0 + fold),
        )
        mined = home / "finetune_data_minedHN.jsonl"
        mined.write_text("{}\n", encoding="utf-8")
        store.write_manifest(store.file_manifest(mined), mined_manifest(made_from={"script": "hn_mine", "seed": 42}))
        checkpoint = home / "train" / f"epoch_{flags['epochs']}"
        store.write_manifest(_parent(checkpoint) / store.MANIFEST, checkpoint_manifest(round=1))
        row = {"kind": RowKind.ROUND, "round": 1, "recipe": flags["recipe"]}
        return self.evaluate(home / "eval", folder, checkpoint, f"round 1, epoch {flags['epochs']} (last)", row)

    def average(self, name: str, fold: int, rounds: list[Path]) -> Path:
        """Write the average of some rounds' last epochs, and return its evaluation."""
        home = self.model_output / f"{name}-{fold}" / "average-1"
        parents = [results.load(each)[0].checkpoint for each in rounds]
        manifest = checkpoint_manifest(
            config={"method": "mean"},
            title="mean of 2 checkpoints",
            parents=[Parent(name=str(self.model_output / each), weights="w", base=False) for each in parents],
        )
        store.write_manifest(_parent(home / "train") / store.MANIFEST, manifest)
        row = {"kind": RowKind.CHECKPOINT, "recipe": "tiny"}
        return self.evaluate(home / "eval", self.collection(fold), home / "train", "mean of 2 checkpoints", row)

    def evaluate(self, folder: Path, data_dir: Path, checkpoint: Path, label: str, fields: dict) -> Path:
        """Write an evaluation of random scores beside the best epoch's row, which is not in the chain."""
        data = collection.read(data_dir)
        record = store.read_made_from(data_dir)
        made_from = {"script": "eval_llm_embedder", "data_dir": hashing.made_from_digest(record)}
        place = checkpoint.relative_to(self.model_output).as_posix()
        row = random_row(data, label, sum(folder.as_posix().encode()), checkpoint=place, **fields)
        best = random_row(data, "round 1, epoch 9 (best)", 9, checkpoint=place, in_chain=False, **fields)
        with store.writing(folder, EvaluationManifest(config={}, made_from=made_from)) as temporary:
            results.save([row, best], temporary)
        return folder


def random_row(data: Collection, label: str, seed: int, **fields: object) -> ResultRow:
    """Return a row with random scores of a collection's validation queries."""
    generator, queries = np.random.default_rng(seed), list(data.validation)
    scores = {name: generator.random(len(queries)) for name in METRICS}
    metrics = summarize(scores, queries, data.unseen)
    columns = {"split": data.split, "data": data.data, "fingerprint": str(seed)}
    return ResultRow(label, metrics, scores["MAP@25"], queries, scores, **columns, **fields)


def _parent(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
