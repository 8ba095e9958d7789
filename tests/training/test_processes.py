"""Two processes against one: the same loss and the same gradients on the same batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from rounds.training import losses

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
BATCH = [([0, 1, 2], [0, 1]), ([2, 3, 4, 0, 5], [2, 0])]  # per process: passages (2 and 0 on both), positives


def vectors() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 8, generator=generator), torch.randn(6, 8, generator=generator)


def loss_of(queries, passages, keys, positives) -> torch.Tensor:
    passages, keys, copies = losses.gather_passages(passages, keys)
    positive = (keys[None, :] == positives[:, None]).int().argmax(dim=1)
    excluded = copies[None, :].expand(len(queries), -1)
    return losses.info_nce(queries, passages, positive, excluded, 0.1)


def one_process() -> tuple[float, torch.Tensor, torch.Tensor]:
    queries, table = (each.requires_grad_() for each in vectors())
    keys = torch.arange(6)
    positives = torch.tensor([p for _, positives in BATCH for p in positives])
    loss = loss_of(queries, table, keys, positives)
    loss.backward()
    return loss.item(), queries.grad, table.grad


def worker(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    queries, table = (each.requires_grad_() for each in vectors())
    numbers, positives = BATCH[rank]
    loss = loss_of(queries[2 * rank : 2 * rank + 2], table[numbers], torch.tensor(numbers), torch.tensor(positives))
    loss.backward()
    torch.save((loss.item(), queries.grad, table.grad), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_gathered_loss_and_gradients_equal_one_process(tmp_path, unused_port):
    """The mean over processes is one process's loss on the whole batch; so are the averaged gradients.

    The processes hold different numbers of passages, and some of them twice.
    """
    multiprocessing.start_processes(worker, args=(unused_port, str(tmp_path)), nprocs=2, start_method="spawn")
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    loss, queries, table = one_process()
    assert sum(part[0] for part in parts) / 2 == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(sum(part[1] for part in parts) / 2, queries)
    torch.testing.assert_close(sum(part[2] for part in parts) / 2, table)


@pytest.mark.slow
@pytest.mark.parametrize("budget", [0, 512])
def test_a_round_in_two_processes_ends_where_one_does(tiny_mined, tmp_path, budget):
    """torchrun with 2 processes sees the same batches and ends with the same weights, up to rounding.

    With gradient caching (`micro_batch_tokens`) too, where each process goes backwards chunk by chunk.
    """
    from safetensors.torch import load_file

    recipe = tmp_path / "still.yaml"
    text = (Path(SCRIPTS).parent / "src/rounds/recipes/tiny-mistral.yaml").read_text(encoding="utf-8")
    text = text.replace("dropout: 0.1", "dropout: 0.0")
    recipe.write_text(f"{text}  micro_batch_tokens: {budget}\n", encoding="utf-8")
    data = tmp_path / "few.jsonl"
    data.write_text("".join(tiny_mined.read_text(encoding="utf-8").splitlines(keepends=True)[:32]), encoding="utf-8")
    found = []
    for processes in (1, 2):
        output = tmp_path / f"train{processes}"
        launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
        launch = launch if processes == 2 else [sys.executable]
        command = [
            *launch, str(SCRIPTS / "finetune.py"), "--recipe", str(recipe), "--device", "cpu",
            "--train_data", str(data), "--output_dir", str(output), "--model_output", str(tmp_path),
        ]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("s of training") == 1
        found.append(load_file(output / "lora_epoch_2" / "adapter_model.safetensors"))
        assert json.loads((output / "manifest.json").read_text())["config"]["processes"] == processes
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-3, atol=1e-4)
