"""The student's table: parameters of a shared base count once, and each part of a query is timed."""

import pytest
from helpers.tiny_task import refused

from rounds.data.few_shot import QueryMetadata
from rounds.models import checkpoint
from rounds.reranking import student_table
from rounds.reranking.candidate_vectors import FusedCheckpoint

QUERIES = [QueryMetadata(f"question {n}?", str(n), f"construct {n}") for n in range(3)]


@pytest.fixture(scope="module")
def base(tiny):
    return checkpoint.resolve(None, tiny, "cpu")


def test_a_missing_teacher_is_named(base, tmp_path):
    """Before anything is measured."""
    taught = student_table.Taught(base, tmp_path / "teacher.jsonl", [base], [tmp_path])
    with refused("teacher.jsonl"):
        taught.config()


def test_a_checkpoint_counts_once_whatever_parts_it_reads(base):
    """Parameters and MiB are those of one model in memory; the time is of all parts."""
    embedder = base.load()
    parameters = sum(weights.numel() for weights in embedder.parameters())
    cost = student_table.measure([FusedCheckpoint(base, "topic"), FusedCheckpoint(base)], QUERIES)
    assert cost.parameters == parameters and cost.mib == pytest.approx(4 * parameters / 2**20)
    assert cost.milliseconds > 0
