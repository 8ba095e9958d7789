"""Generator: a causal language model with a recipe's tuning method, loaded, saved and told what to write next."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel, PeftType, get_peft_model
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Cache,
    DynamicCache,
    PreTrainedModel,
    TopPLogitsWarper,
)

from rounds.artifacts import store
from rounds.artifacts.prompt_manifests import GeneratorCheckpointManifest, GeneratorManifest
from rounds.config import generator as recipes
from rounds.config.generator import GeneratorRecipe
from rounds.config.recipe import FOUR_BIT_PRECISIONS
from rounds.errors import UserError
from rounds.generation.sequences import Tokenization
from rounds.models import backbone, loading, peft_methods, precision, tokenizer_checks, weights

TASK_TYPE = "CAUSAL_LM"


class NotFiniteError(UserError):
    """A generator's logits are not finite, so that what it writes would mean nothing."""

    def __init__(self, name: str, precision: str) -> None:
        """Name the model and the precision."""
        remedy = "set model.precision fp32" if precision != "fp32" else "its weights may be broken"
        super().__init__(f"model {name}: gives no finite numbers in {precision}; {remedy}")


@dataclass
class Generator:
    """A language model that writes prompts.

    Attributes:
        recipe: its recipe.
        model: the language model, or peft's around it.
        tokenization: its tokenizer, with the recipe's template.
        precision: resolved precision that it computes in.
        device: where it is.
    """

    recipe: GeneratorRecipe
    model: PreTrainedModel | PeftModel
    tokenization: Tokenization
    precision: str
    device: str

    @property
    def pad(self) -> int:
        """Id of the padding token."""
        return self.tokenization.tokenizer.pad_token_id

    def autocast(self) -> contextlib.AbstractContextManager:
        """Return the context to compute in."""
        keep = not self.recipe.training.gradient_checkpointing
        return precision.autocast(self.precision, self.device, keep_casts=keep)

    @torch.inference_mode()
    def write(self, contexts: Sequence[list[int]], samples: int = 1) -> list[list[str]]:
        """Return what the model writes behind each context.

        Contexts are padded on the left, and virtual tokens stand next to the text, as they do in training: so no row
        depends on those beside it.

        Args:
            contexts: token ids of each row.
            samples: 1 for the greedy text; more to draw so many from torch's global random generator.

        Returns:
            For each context `samples` texts, as they were written, without special tokens.
        """
        repeated = [context for context in contexts for _ in range(samples)]
        base = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        self.model.eval()
        with self.autocast():
            ids = self._continue(base, *self._inputs(repeated), pick=self._draw if samples > 1 else _most_likely)
        texts = self.tokenization.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [texts[start : start + samples] for start in range(0, len(texts), samples)]

    def _continue(
        self, base: PreTrainedModel, embeds: Tensor, mask: Tensor, cache: Cache, pick: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return the ids that follow, (rows, tokens), padded behind a row's end.

        transformers' `generate` counts positions wrongly behind a cache that begins with a prefix, so the loop is here.

        Args:
            base: the language model, without what peft puts before its input.
            embeds: embedded contexts, (rows, length, dim), padded on the left.
            mask: (rows, states in the cache + length), 1 where there is no padding.
            cache: keys and values of a prefix; empty without one.
            pick: chooses ids by their logits, (rows, vocabulary).
        """
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -embeds.shape[1] :]
        stops = torch.tensor(self._stop_tokens(), device=self.device)
        ids, inputs = [], {"inputs_embeds": embeds}
        is_finished = torch.zeros(len(embeds), dtype=torch.bool, device=self.device)
        while len(ids) < self.recipe.generation.max_new_tokens and not is_finished.all():
            state = {"attention_mask": mask, "position_ids": positions, "past_key_values": cache}
            logits = base(**inputs, **state, use_cache=True, logits_to_keep=1).logits[:, -1].float()
            if not logits.isfinite().any(-1).all():  # single words may be masked by -inf
                raise NotFiniteError(self.recipe.model.name_or_path, self.precision)
            ids.append(pick(logits).masked_fill(is_finished, self.pad))
            is_finished |= torch.isin(ids[-1], stops)
            inputs = {"input_ids": ids[-1].unsqueeze(1)}
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            positions = positions[:, -1:] + 1
        return torch.stack(ids, dim=1)

    def _draw(self, logits: Tensor) -> Tensor:
        """Draw an id for each row, as the recipe's temperature and top_p say."""
        generation = self.recipe.generation
        warped = TopPLogitsWarper(generation.top_p)(None, logits / generation.temperature)
        return torch.multinomial(warped.softmax(-1), 1).squeeze(1)

    def _stop_tokens(self) -> list[int]:
        """Return the ids that end a text: the tokenizer's EOS, and those that the base model names."""
        named = self.model.generation_config.eos_token_id
        named = named if isinstance(named, list) else [named]
        return sorted({self.tokenization.tokenizer.eos_token_id, *(number for number in named if number is not None)})

    def _inputs(self, contexts: Sequence[list[int]]) -> tuple[Tensor, Tensor, Cache]:
        """Return the embedded contexts with their virtual tokens, padded on the left, their mask, and the cache."""
        embed, device = self.model.get_input_embeddings(), self.device
        virtual, cache = self._virtual_tokens(len(contexts))
        rows = [embed(torch.tensor(ids, device=device)) for ids in contexts]
        if virtual is not None:
            rows = [torch.cat([virtual.to(row.dtype), row]) for row in rows]
        width = max(map(len, rows))
        embeds = torch.zeros(len(rows), width, rows[0].shape[-1], dtype=rows[0].dtype, device=device)
        mask = torch.zeros(len(rows), width, dtype=torch.long, device=device)
        for number, row in enumerate(rows):
            embeds[number, width - len(row) :] = row
            mask[number, width - len(row) :] = 1
        mask = torch.cat([mask.new_ones(len(rows), cache.get_seq_length()), mask], dim=1)
        return embeds, mask, cache

    def _virtual_tokens(self, rows: int) -> tuple[Tensor | None, Cache]:
        """Return the embeddings of virtual tokens, (tokens, dim) or None, and a cache, filled by prefix tuning."""
        empty = DynamicCache(config=self.model.config)
        if not (isinstance(self.model, PeftModel) and self.model.active_peft_config.is_prompt_learning):
            return None, empty
        if self.model.active_peft_config.peft_type == PeftType.PREFIX_TUNING:
            return None, self.model.get_prompt(rows)
        return self.model.get_prompt(1)[0], empty


def _most_likely(logits: Tensor) -> Tensor:
    return logits.argmax(-1)


def load(recipe: GeneratorRecipe, device: str, folder: Path | None = None, trains: bool = False) -> Generator:
    """Load a recipe's base model, with the weights of a checkpoint where one is named.

    Initial values of new weights come from torch's global random generator: seed it first.

    Args:
        device: a resolved device.
        folder: a checkpoint's folder; None for the base model.
        trains: insert the tuning method's new weights and make them trainable; needs `folder` to be None.

    Raises:
        UserError: the model or checkpoint cannot be loaded, or does not do what the recipe says of it.
    """
    resolved = precision.resolve_precision(recipe.model.precision, device)
    is_full = folder is not None and recipe.tuning.method == "full"
    name = str(folder) if is_full else weights.locate_model(recipe.model)
    label = f"model {folder or recipe.model.name_or_path}"
    shared = {"trust_remote_code": recipe.model.trust_remote_code, "revision": weights.hub_revision(name, recipe.model)}
    with loading.one_line_errors(label, ()):
        model = AutoModelForCausalLM.from_pretrained(
            name,
            **backbone.weight_loading_arguments(recipe.shared, resolved, device),
            **backbone.dropout_config(recipe.model.dropout),
            **shared,
        )
        tokenizer = AutoTokenizer.from_pretrained(name, **shared)
    tokenizer_checks.choose_padding(tokenizer, label)
    tokenizer_checks.check_embeddings(tokenizer, model, label)
    backbone.keep_four_bit_layout(model)
    tokenization = Tokenization(tokenizer, recipe)
    _check_positions(model, recipe)
    if resolved in FOUR_BIT_PRECISIONS:  # loaded onto the device
        _say_unquantized(model, label)
    else:
        model = model.to(device)
    if folder is not None and not is_full:
        with loading.one_line_errors(label, ()):
            model = PeftModel.from_pretrained(model, folder)
    if trains and recipe.tuning.method != "full":
        model = _insert(model, recipe, name)
    return Generator(recipe, model, tokenization, resolved, device)


def _say_unquantized(model: PreTrainedModel, label: str) -> None:
    """Print how many weights of experts are not in 4 bits: bitsandbytes packs linear layers alone.

    transformers 5 holds the experts of a layer in joined weights of three dimensions.
    """
    joined = sum(parameter.numel() for parameter in model.parameters() if parameter.dim() == 3)
    if joined:
        loading.report_once(
            f"{label}: {joined:,} weights of its experts stay in 16 bits ({joined * 2 / 2**30:.1f} GiB), since "
            "bitsandbytes packs linear layers alone"
        )


def _insert(model: PreTrainedModel, recipe: GeneratorRecipe, name: str) -> PeftModel:
    """Freeze a model and put the tuning method's weights into it.

    Raises:
        UserError: the targets match no module of the model, or peft cannot adapt them.
    """
    tuning, revision = recipe.tuning, weights.hub_revision(name, recipe.model)
    model.requires_grad_(False)
    config = peft_methods.peft_config(tuning, model, name, revision, TASK_TYPE)
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise UserError(f"tuning.method {tuning.method}: {' '.join(str(error).split())[:160]}") from None


def _check_positions(model: PreTrainedModel, recipe: GeneratorRecipe) -> None:
    """Refuse sequences that are longer than the model's positions."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    virtual = recipe.tuning.virtual.tokens if recipe.tuning.has_virtual_tokens else 0
    length = recipe.training.max_length + virtual
    if limit and length > limit:
        raise UserError(
            f"model {recipe.model.name_or_path}: has {limit} positions, and training.max_length with virtual tokens "
            f"needs {length}; lower it"
        )


def save_weights(model: PreTrainedModel | PeftModel, tokenizer, folder: Path) -> None:
    """Write a checkpoint's weights: peft's adapter, or the whole model with its tokenizer."""
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    if not isinstance(model, PeftModel):
        tokenizer.save_pretrained(folder)


def base_digest(recipe: GeneratorRecipe) -> str:
    """Return the digest of the weights of a recipe's base model."""
    return weights.base_model_digest(recipe.model)


@dataclass(frozen=True)
class SavedGenerator:
    """A tuned generator on disk.

    Attributes:
        folder: the checkpoint.
        manifest: what it says of itself.
    """

    folder: Path
    manifest: GeneratorCheckpointManifest

    @property
    def recipe(self) -> GeneratorRecipe:
        """The recipe that it was tuned with."""
        return recipes.from_dict(self.manifest.recipe, str(self.folder / store.MANIFEST))

    def check_weights(self) -> None:
        """Check that the weights are those that the manifest names.

        Raises:
            UserError: they are others.
        """
        if weights.weights_digest(str(self.folder)) != self.manifest.weights_digest:
            raise UserError(f"{self.folder}: its weights are not those of its manifest; run make tune again")

    def load(self, device: str, recipe: GeneratorRecipe | None = None) -> Generator:
        """Load it.

        Args:
            recipe: its recipe with other generation settings; None for its own.

        Raises:
            UserError: its weights, or those of its base model, are not those that its manifest names.
        """
        self.check_weights()
        # A fully tuned checkpoint holds all weights, and loads where its base model is not.
        if self.recipe.tuning.method != "full" and base_digest(self.recipe) != self.manifest.base_digest:
            raise UserError(
                f"{self.folder}: was tuned from other weights of {self.recipe.model.name_or_path} than are here now; "
                "restore them (ROUNDS_MODEL, revision) or run make tune again"
            )
        return load(recipe or self.recipe, device, self.folder)


def continuing(recipe: GeneratorRecipe, start: SavedGenerator) -> GeneratorRecipe:
    """Return a recipe whose base model is a checkpoint.

    Raises:
        UserError: the checkpoint is an adapter, or its weights are not those of its manifest.
    """
    if start.recipe.tuning.method != "full":
        raise UserError(
            f"{start.folder}: holds an adapter ({start.recipe.tuning.method}), and tuning starts from whole models "
            "alone; name one that was tuned with --method full"
        )
    start.check_weights()
    model = dataclasses.replace(recipe.model, name_or_path=str(start.folder), revision=None, sha256=None)
    return dataclasses.replace(recipe, model=model)


def find_checkpoint(folder: Path) -> SavedGenerator:
    """Return a checkpoint by its folder, or the last one of a folder that tuning wrote.

    Raises:
        UserError: the folder holds neither.
    """
    manifest = store.read_manifest(folder) if folder.is_dir() else None
    if isinstance(manifest, GeneratorManifest):
        folder = folder / manifest.last
        manifest = store.read_manifest(folder)
    if not isinstance(manifest, GeneratorCheckpointManifest):
        raise UserError(f"{folder}: holds no tuned generator; make tune TASK=prompt_recovery writes one")
    return SavedGenerator(folder, manifest)
