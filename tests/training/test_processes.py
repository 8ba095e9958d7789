"""Two processes give the loss, gradients and weights of one process on the same batches."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from safetensors.torch import load_file

from rounds.config.recipe import Training
from rounds.training import losses
from rounds.training.similarity import TokenEmbeddings

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
# For each process: its passages, of which both have 0 and 2, and the positive and the negative of its two queries.
BATCH = [([0, 1, 2], [[0, 2], [1, 2]]), ([2, 3, 4, 0, 5], [[2, 3], [0, 4]])]
SETTINGS = {
    "plain": Training(temperature=0.1),
    "weighted": Training(
        temperature=0.1, false_negative_margin=0.1, hardness_mode="in_batch_negatives", hardness_strength=2.0
    ),
}


def vectors() -> tuple[torch.Tensor, torch.Tensor]:
    """Return random queries (4, 8) and a table of passages (6, 8)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 8, generator=generator), torch.randn(6, 8, generator=generator)


def loss_of(queries, passages, keys, groups, settings) -> torch.Tensor:
    """Return InfoNCE of a process's queries over all passages; `groups` holds keys of passages, the positive first."""
    groups = torch.tensor(groups)
    rows = (groups[:, :, None] == keys[None, None, :]).int().argmax(dim=2)
    none = torch.full((len(queries), 1), -2)
    return losses.info_nce_loss(losses.EmbeddedBatch(queries, passages, keys, groups[:, 0], none, rows), settings)


def as_embeddings(rows: torch.Tensor, tokens: bool) -> torch.Tensor | TokenEmbeddings:
    """Return rows (texts, 8) as they are, or as two tokens of four numbers each."""
    if not tokens:
        return rows
    return TokenEmbeddings(rows.unflatten(1, (2, 4)), torch.ones(len(rows), 2, dtype=torch.bool))


def one_process(tokens: bool, name: str) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Return the loss of the whole batch in one process, and the gradients of queries and passages."""
    queries, table = (tensor.requires_grad_() for tensor in vectors())
    keys = torch.arange(6)
    groups = [group for _, groups in BATCH for group in groups]
    loss = loss_of(as_embeddings(queries, tokens), as_embeddings(table, tokens), keys, groups, SETTINGS[name])
    loss.backward()
    return loss.item(), queries.grad, table.grad


def worker(rank: int, port: int, folder: str, tokens: bool, name: str) -> None:
    """Write the loss and gradients of one of two processes to a file."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    queries, table = (tensor.requires_grad_() for tensor in vectors())
    passages, groups = BATCH[rank]
    own = [as_embeddings(part, tokens) for part in (queries[2 * rank : 2 * rank + 2], table[passages])]
    loss = loss_of(*own, torch.tensor(passages), groups, SETTINGS[name])
    loss.backward()
    torch.save((loss.item(), queries.grad, table.grad), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("tokens", [False, True])
def test_gathered_loss_and_gradients_equal_one_process(tmp_path, unused_port, tokens, name):
    """The means of loss and gradients over the processes are those of one process on the whole batch.

    The processes have different numbers of passages, and share some of them.
    """
    arguments = (unused_port, str(tmp_path), tokens, name)
    multiprocessing.start_processes(worker, args=arguments, nprocs=2, start_method="spawn")
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    loss, queries, table = one_process(tokens, name)
    assert sum(part[0] for part in parts) / 2 == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(sum(part[1] for part in parts) / 2, queries)
    torch.testing.assert_close(sum(part[2] for part in parts) / 2, table)


@pytest.mark.slow
@pytest.mark.parametrize("budget", [0, 512])
def test_a_round_in_two_processes_ends_where_one_does(tiny_mined, tmp_path, budget):
    """Trained by torchrun with 2 processes, the weights are those of one process, up to rounding.

    So they are with gradient caching (`micro_batch_tokens`), where each process propagates gradients chunk by chunk.
    """
    recipe = tmp_path / "without-dropout.yaml"
    text = (SCRIPTS.parent / "src/rounds/recipes/tiny-mistral.yaml").read_text(encoding="utf-8")
    text = text.replace("dropout: 0.1", "dropout: 0.0")
    recipe.write_text(f"{text}  micro_batch_tokens: {budget}\n", encoding="utf-8")
    data = tmp_path / "few.jsonl"
    data.write_text("".join(tiny_mined.read_text(encoding="utf-8").splitlines(keepends=True)[:32]), encoding="utf-8")
    weights = []
    for processes in (1, 2):
        output = tmp_path / f"train{processes}"
        launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2"] if processes == 2 else []
        flags = ["--recipe", recipe, "--device", "cpu", "--train_data", data]
        flags += ["--output_dir", output, "--model_output", tmp_path]
        command = [sys.executable, *launcher, SCRIPTS / "finetune.py", *flags]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("s of training") == 1
        weights.append(load_file(output / "lora_epoch_2" / "adapter_model.safetensors"))
        assert json.loads((output / "manifest.json").read_text())["config"]["processes"] == processes
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-3, atol=1e-4)
