"""Evaluation's rows: what a collection must hold before anything is ranked."""

import dataclasses

import pytest
from helpers.scripts import assert_one_line, call
from helpers.tiny_task import refused

from rounds.config.sections.mining import BM25
from rounds.data import collection
from rounds.evaluation.stage import bm25_row, chance_row


@pytest.mark.parametrize("row", [chance_row, lambda data: bm25_row(data, BM25())], ids=["chance", "BM25"])
def test_a_baseline_without_validation_queries_is_refused(row, tiny_collection):
    """A collection of test queries alone, such as split submission's, has nothing to measure."""
    data = dataclasses.replace(collection.read(tiny_collection), validation={})
    with refused(tiny_collection, "no validation queries"):
        row(data)


@pytest.mark.parametrize("count", ["0", "-1"])
def test_too_few_queries_to_probe_are_refused(count, tiny_collection):
    """`--queries` takes at least one."""
    flags = ["--recipe", "tiny-mistral", "--device", "cpu", "--data_dir", str(tiny_collection), "--queries", count]
    assert_one_line(call("probe.py", "--probe", "brittle", *flags), "--queries", "at least 1")
