"""Trainer callback: save and evaluate a checkpoint after each epoch."""

import shutil
import time
from pathlib import Path

from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from torch import Tensor
from tqdm import tqdm
from transformers import TrainerCallback

from rounds.artifacts import store
from rounds.artifacts.manifests import Epoch
from rounds.config.recipe import Training
from rounds.encoding import canary
from rounds.estimate import Estimate
from rounds.models import checkpoint, peft_methods
from rounds.models.devices import peak_memory
from rounds.training import partial_folder, sharding, weight_average
from rounds.training.collator import Collator
from rounds.training.loss_module import EmbeddingLoss
from rounds.training.plan import STATE, Evaluate, Plan
from rounds.training.progress import SavedProgress, write_progress

RAMP_SHARE = 1 / 3  # of the steps over which the FLOPS regularization rises

COLLAPSED = 0.9  # mean cosine of random passages above which vectors hardly tell passages apart


class EpochCheckpointCallback(TrainerCallback):
    """Write a checkpoint folder after each epoch, evaluate it, and report it in one line.

    The trainer sets `collator` and `trainer` before training.

    Args:
        plan: the run.
        partial: the unfinished output folder.
        embedder: the model in training.
        evaluate: returns an epoch's metrics; None evaluates no epoch.
    """

    def __init__(self, plan: Plan, partial: Path, embedder: SentenceTransformer, evaluate: Evaluate | None) -> None:
        self.plan, self.partial, self.embedder, self.evaluate = plan, partial, embedder, evaluate
        self.weights_before = peft_methods.snapshot_trainable(embedder)
        is_main = store.is_main_process()  # all processes have the same weights; one averages and saves them
        self.average = weight_average.make(embedder, plan.recipe.training if is_main else Training())
        self.collator: Collator | None = None
        self.trainer: SentenceTransformerTrainer | None = None
        self.start = self.epoch_start = time.perf_counter()
        self.earlier: partial_folder.SavedState | None = None  # which this call goes on from
        self.logged_step = 0
        self.epoch_losses: list[tuple[int, float]] = []  # (steps, their mean loss)
        self.curve: list[tuple[int, float]] = []  # (step, loss) of this process

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.first_step, self.train_start = state.global_step, time.perf_counter()
        self.logged_step = state.global_step
        hidden = None if store.is_main_process() else True
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="train", unit="step", disable=hidden)
        self._write_progress(state)
        self.average.load(self._state_folder(state))

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        self.collator.start_epoch(round(state.epoch or 0))
        self.epoch_losses = []
        self.epoch_start = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.bar.update(state.global_step - self.bar.n)
        self.average.after_step(state.global_step)
        if state.global_step % (state.max_steps // args.num_train_epochs) == 0:
            control.should_log = True  # the epoch's last steps belong to its mean loss, too

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if "loss" in (logs or {}):
            loss = float(logs["loss"])
            self.epoch_losses.append((state.global_step - self.logged_step, loss))
            self.logged_step = state.global_step
            self.bar.set_postfix(loss=f"{loss:.4f}")
            self.curve.append((state.global_step, loss))
            self._write_progress(state)

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self.bar.close()

    def on_epoch_end(self, args, state, control, **kwargs) -> None:
        gathered = sharding.gather_weights(self.trainer)
        weights_after = gathered or peft_methods.trainable_parameters(self.embedder)
        peft_methods.check_weights_moved(self.weights_before, weights_after)
        self.average.after_epoch()
        if store.is_main_process():
            with self.average.applied():
                self._finish_epoch(round(state.epoch), round(time.perf_counter() - self.epoch_start, 1), gathered)
        sharding.wait_for_all_processes()

    def on_save(self, args, state, control, **kwargs) -> None:
        sharding.wait_for_all_processes()  # each process writes its own random state
        if store.is_main_process():
            folder = self._state_folder(state)
            self.average.save(folder)
            partial_folder.mark_complete(folder, self.seconds(), self.peak_mib())

    def seconds(self) -> float:
        """Return the time of training and evaluation so far, with what the calls before had reached."""
        earlier = self.earlier.seconds if self.earlier else 0.0
        return round(earlier + time.perf_counter() - self.start, 1)

    def peak_mib(self) -> float:
        """Return the most memory held so far, by the calls before too, in MiB."""
        earlier = self.earlier.peak_mib if self.earlier else 0.0
        return max(earlier, round(peak_memory(str(self.trainer.args.device)), 1))

    def _state_folder(self, state) -> Path:
        """Return the folder of the Trainer's state after the present step."""
        return self.partial / STATE / f"checkpoint-{state.global_step}"

    def _write_progress(self, state) -> None:
        """Write how far the training is, for those who watch it."""
        if not store.is_main_process():
            return
        progress = SavedProgress(
            step=state.global_step,
            steps=state.max_steps,
            first=self.first_step,
            seconds=round(time.perf_counter() - self.train_start, 1),
            losses=self.curve,
        )
        write_progress(self.partial, progress)

    def _finish_epoch(self, epoch: int, seconds: float, gathered: dict[str, Tensor] | None) -> None:
        """Write the epoch's checkpoint and metrics, and print its line.

        Args:
            epoch: counted from 1.
            seconds: time that the epoch trained.
            gathered: the weights of a sharded model, which is not evaluated; None without sharding.
        """
        folder = self.partial / f"{'lora_epoch' if self.plan.recipe.tuning.has_lora else 'epoch'}_{epoch}"
        self._save_checkpoint(folder, epoch, seconds, gathered)
        metrics = self.evaluate(self.embedder, folder) if self.evaluate and not gathered else {}
        if self.epoch_losses:
            steps = sum(count for count, _ in self.epoch_losses)
            metrics["train loss"] = round(sum(count * loss for count, loss in self.epoch_losses) / steps, 6)
        if metrics.get("mean cosine", 0) > COLLAPSED:
            tqdm.write(
                f"warning: random passages have a mean cosine of {metrics['mean cosine']:.3f}: the vectors collapse; "
                "lower learning_rate, or leave tuning.projection out"
            )
        store.write_json(folder / "metrics.json", metrics)
        tqdm.write(epoch_line(epoch, self.plan.recipe.training.epochs, metrics, seconds))

    def _save_checkpoint(self, folder: Path, epoch: int, seconds: float, gathered: dict[str, Tensor] | None) -> None:
        """Write the epoch's checkpoint folder, in place of one that a killed run left behind."""
        shutil.rmtree(folder, ignore_errors=True)
        recipe, precision = self.plan.recipe, self.plan.start.precision
        with store.drafting(folder) as draft:
            draft.manifest = checkpoint.save(
                self.embedder,
                draft.folder,
                recipe,
                precision,
                gathered,
                **self.plan.origin.checkpoint_entries(),
                epoch=epoch,
                seed=self.plan.seed,
                train_seconds=seconds,
                first_rows=self.collator.first_rows,
            )
            if canary.is_needed(self.embedder):
                proof = canary.embed_canaries(self.embedder, recipe.prompts, precision)
                draft.manifest = draft.manifest.with_values(proof=proof)

    def history(self) -> list[Epoch]:
        """Return the folder name and metrics of each finished epoch, in order; a killed run's epochs are included."""
        files = sorted(self.partial.glob("*epoch_*/metrics.json"), key=lambda f: int(f.parent.name.rpartition("_")[2]))
        return [Epoch(folder=file.parent.name, metrics=store.read_json(file)) for file in files]


class FlopsRamp(TrainerCallback):
    """Raise the weight of the FLOPS regularization with the square of the steps (SPLADE: arXiv:2109.10086).

    Regularized from the start, a model would empty its vectors before it has learned which words matter.

    Args:
        loss: the loss, whose `flops_ramp` is set before each step.
    """

    def __init__(self, loss: EmbeddingLoss) -> None:
        self.loss = loss

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self.loss.flops_ramp = min(1.0, state.global_step / max(1.0, state.max_steps * RAMP_SHARE)) ** 2


class StepEstimate(TrainerCallback):
    """Print how long the optimizer steps take, those that are left where a training is resumed.

    Args:
        title: what is trained.
        warms_up: the model is compiled with the first step.
    """

    def __init__(self, title: str, warms_up: bool = False) -> None:
        self.title, self.warms_up = title, warms_up
        self.estimate: Estimate | None = None

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if state.is_world_process_zero:
            self.estimate = Estimate(self.title, "steps", self.warms_up or args.device.type != "cpu")
            self.estimate.update(state.global_step, state.max_steps)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if self.estimate:
            self.estimate.update(state.global_step, state.max_steps)


def epoch_line(epoch: int, epochs: int, metrics: dict, seconds: float) -> str:
    """Return the line that reports an epoch.

    >>> epoch_line(1, 2, {"train loss": 1.5, "MAP@25": 0.25, "Recall@25": 0.5}, 61.0)
    'epoch 1/2  loss 1.5000  MAP@25 0.2500  Recall@25 0.5000  61 s'
    """
    names = {"train loss": "loss", "MAP@25": "MAP@25", "Recall@25": "Recall@25"}
    shown = [f"{title} {metrics[name]:.4f}" for name, title in names.items() if name in metrics]
    return "  ".join([f"epoch {epoch}/{epochs}", *shown, f"{seconds:.0f} s"])
