"""Look for BM25's best parameters on a split's training queries."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rounds import cli
from rounds.artifacts import store
from rounds.config import loader
from rounds.data import collection
from rounds.evaluation import bm25_tuning
from rounds.evaluation.table import Column, Table
from rounds.flags import RecipeByName


@dataclass(kw_only=True)
class Flags(RecipeByName):
    """The split to tune on, and the recipe whose stemmer and stop words are taken."""

    data_dir: str = field(metadata={"help": "collection; its training queries alone are looked at"})


def main(flags: Flags) -> None:
    """Look for BM25's best parameters on a split's training queries."""
    folder = Path(flags.data_dir)
    passages = collection.read(folder).passages
    rows = collection.own_rows(store.read_jsonl(folder / collection.FINETUNE, ("query", "query_id", "pos_id")))
    queries = {row["query_id"]: row["query"] for row in rows}
    left_out = {row["query_id"]: row["identical"] for row in rows if row.get("identical")}
    qrels = {row["query_id"]: row["pos_id"] for row in rows}
    points = bm25_tuning.tune(queries, passages, qrels, loader.load(flags.recipe).mining.bm25, left_out)
    body = [[f"{k1:g}", f"{b:g}", f"{score:.4f}"] for k1, b, score in points]
    title = f"{bm25_tuning.TUNED_BY} on {len(rows)} training queries"
    Console().print(Table(list(map(Column, ("k1", "b", bm25_tuning.TUNED_BY))), body, title).screen())
    print(f"recipe: mining: {{bm25: {{k1: {points[0][0]:g}, b: {points[0][1]:g}}}}}")


if __name__ == "__main__":
    cli.run(main, Flags)
