"""Checkpoint: a folder with an adapter or a whole model, and the `manifest.json` that rebuilds it.

The manifest holds recipe, base model, parent checkpoint, lineage, seed and versions. `resolve` identifies the model
behind a name or folder; `Checkpoint.load` loads its weights and refuses those that do not fit.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from torch import Tensor

from rounds.artifacts import store
from rounds.artifacts.manifests import CheckpointManifest, FinetuneManifest, Manifest
from rounds.config import loader
from rounds.config.recipe import FOUR_BIT_PRECISIONS, LAYER_POOLINGS, Recipe, Tuning
from rounds.config.stand_ins import stand_in
from rounds.errors import Refused, UserError
from rounds.models import backbone, dual_encoder, peft_methods, splade, weights_io
from rounds.models.devices import resolve_device
from rounds.models.inference_options import InferenceOptions
from rounds.models.library_versions import library_versions
from rounds.models.precision import native_precision, resolve_precision
from rounds.models.weights import adapter_digest, base_model_digest, have_digest, locate_model, weights_digest

TEXT_PROMPTS = ("query", "passage", "latex")  # prompts that shape the texts, whose hashes are in a run's key already

LOCATION_KEYS = ("name_or_path", "revision", "sha256")  # say where the base model's weights lie, not what they are


@dataclass(frozen=True)
class Checkpoint:
    """A model to encode with, before its weights are loaded.

    Attributes:
        recipe: how to build the model; from the manifest if there is one.
        weights_digest: SHA-256 over all weights that make up the model.
        options: how it embeds texts.
        folder: folder of the weights; None for the recipe's base model.
        is_adapter: whether the folder holds an adapter rather than all weights.
        manifest: None for base models and for models of other tools.
        lineage: training questions of the checkpoint and its ancestors (see `data.lineage`); None if unknown.
        is_initialization: whether this is the checkpoint of another task that a recipe starts from
            (`tuning.init_from`).
    """

    recipe: Recipe
    weights_digest: str
    options: InferenceOptions
    folder: Path | None = None
    is_adapter: bool = False
    manifest: CheckpointManifest | None = None
    lineage: dict[str, str] | None = None
    is_initialization: bool = False

    @property
    def name(self) -> str:
        """The name in tables and messages: the folder, or the base model's name."""
        return self.recipe.model.name_or_path if self.folder is None else str(self.folder)

    @property
    def is_base(self) -> bool:
        """Whether this is the recipe's base model, untrained."""
        return self.folder is None

    @property
    def kind(self) -> str:
        """`base`, `adapter`, `merged` or `full`."""
        if self.is_base:
            return "base"
        if self.is_adapter:
            return "adapter"
        return "merged" if self.manifest and self.manifest.merged else "full"

    @property
    def tuning(self) -> Tuning | None:
        """The tuning method that trained the weights; None for base models and models of other tools."""
        return self.recipe.tuning if self.manifest else None

    @property
    def is_dual_encoder(self) -> bool:
        """Whether queries and passages have weights of their own, in a subfolder each."""
        return self.tuning is not None and self.tuning.separate

    @property
    def normalizes(self) -> bool:
        """Whether embeddings have unit length; a base model has no projection head, so its own setting counts."""
        return self.recipe.normalizes if self.tuning else self.recipe.model.normalize

    @property
    def representation(self) -> str:
        """What a text's embedding is: a key of `retrieval.representations.KINDS`."""
        return self.recipe.model.representation

    @property
    def precision(self) -> str:
        """Numeric precision of its computations (`options.precision`)."""
        return self.options.precision

    @property
    def device(self) -> str:
        """Device of this process (`options.device`)."""
        return self.options.device

    @property
    def key(self) -> dict:
        """Everything about the model that a run depends on; part of the names of cached runs."""
        model, options = self.recipe.model, self.options
        key = {"weights": self.weights_digest, "precision": options.precision}
        if model.double_quant and options.precision in FOUR_BIT_PRECISIONS:
            key["double_quant"] = True
        if options.truncate_dim is not None:
            key["dim"] = options.truncate_dim
        if options.engine != "rounds":
            key["engine"] = options.engine
        if options.modality != "with":
            key["pictures"] = options.modality
        pooling = [model.pooling, model.normalize, model.padding_side]
        if model.pooling in LAYER_POOLINGS:
            pooling += [model.pooling_layers, model.pooling_tokens]
        if model.pooling == "tokens":
            pooling.append(model.token_dim)
        if model.vision.reads_images:
            pooling += [model.vision.join, model.vision.image_size if model.vision.is_joint else model.vision.weight]
        prompts = {name: value for name, value in vars(self.recipe.prompts).items() if name not in TEXT_PROMPTS}
        return {**key, "pooling": pooling, "prompts": prompts}

    def with_options(self, **changes) -> "Checkpoint":
        """Return the same checkpoint with other inference options.

        Args:
            changes: attributes of `InferenceOptions`.

        Raises:
            UserError: an option has a value that it cannot take, or needs dense vectors.
        """
        if changes.get("truncate_dim") is not None:
            self.recipe.require_dense("truncate_dim")
        if changes.get("engine", "rounds") != "rounds":
            self.recipe.require_dense(f"engine {changes['engine']}")
        return dataclasses.replace(self, options=dataclasses.replace(self.options, **changes))

    def load(self) -> SentenceTransformer:
        """Load the weights, in evaluation mode on the checkpoint's device.

        Raises:
            Refused: keys are missing or unexpected.
        """
        if self.folder is None:
            embedder = backbone.load(self.recipe, self.precision, self.device)
            splade.report_new_head(embedder, self.name)
            return embedder
        if not self.is_dual_encoder:
            return self._load_encoder(self.folder)
        encoders = {kind: self._load_encoder(self.folder / kind) for kind in dual_encoder.KINDS}
        embedder = SentenceTransformer(modules=list(encoders["query"]), device=self.device)
        dual_encoder.set_encoders(embedder, encoders)
        return embedder.eval()

    def _load_encoder(self, folder: Path) -> SentenceTransformer:
        if self.is_adapter:
            embedder = backbone.load(self.recipe, self.precision, self.device)
            weights_io.attach_adapter(embedder, folder, self.tuning)
            return embedder.to(self.device).eval()
        has_head = self.tuning is not None and self.tuning.projection.dim > 0
        embedder = backbone.load(self.recipe, self.precision, self.device, str(folder), has_head)
        weights_io.check_model_keys(embedder, folder, foreign=self.manifest is None)
        if self.tuning:
            peft_methods.add_modules(embedder, self.tuning, is_tuned_model=True)
            weights_io.load_extra_parameters(embedder, folder, self.tuning)
        return embedder


def resolve(
    name_or_path: str | None,
    recipe: Recipe | None = None,
    device: str | None = None,
    precision: str | None = None,
    takes_recipe: bool = False,
) -> Checkpoint:
    """Identify the model behind a name or folder.

    Args:
        name_or_path: a checkpoint folder, a finetune stage's folder (resolves to the epoch that the next round
            continues with), a model folder or hub name of another tool, or None for the recipe's base model.
        recipe: required without a manifest; with one, the recipe's model and prompts must agree with the manifest's.
        device: `cpu`, `cuda` or `cuda:N`; None takes a GPU if there is one.
        precision: compute in this precision instead of the checkpoint's own.
        takes_recipe: whether a user can name `recipe` with `--recipe`, as the message then says.

    Raises:
        UserError: the folder does not exist, or no recipe says how to use the model.
        Refused: the weights or the recipe are not those of the manifest.
    """
    device = resolve_device(device)
    if name_or_path is None and recipe is not None and recipe.tuning.init_from:
        return _resolve_initialization(recipe, device, precision)
    folder = _existing_folder(name_or_path)
    manifest = _read_manifest(folder) if folder else None
    if isinstance(manifest, FinetuneManifest):
        folder = _epoch_to_continue(folder, manifest)
        manifest = _read_manifest(folder)
    if folder and manifest is None:
        _require_foreign(folder)
    if isinstance(manifest, CheckpointManifest):
        return _resolve_checkpoint(folder, manifest, recipe, device, precision)
    recipe = recipe or recipe_for_model(name_or_path)
    if recipe is None:
        reason = "has no checkpoint manifest" if folder else "no such folder"
        hint = "name the recipe of this model with --recipe" if takes_recipe else "name a checkpoint of ours"
        raise UserError(f"{name_or_path}: {reason}; {hint}")
    options = InferenceOptions(resolve_precision(precision or recipe.model.precision, device), (device,))
    if folder and (folder / weights_io.ADAPTER_CONFIG).is_file():
        return Checkpoint(recipe, adapter_digest(recipe.model, folder), options, folder, is_adapter=True)
    if folder and not _is_base_folder(folder, recipe):
        return Checkpoint(recipe, weights_digest(str(folder)), options, folder)
    if folder is None and not _is_base_name(name_or_path, recipe):
        return _resolve_hub_model(name_or_path, recipe, options)
    return Checkpoint(recipe, base_model_digest(recipe.model), options, lineage=_base_lineage(recipe))


def _read_manifest(folder: Path) -> Manifest | None:
    """Return a folder's manifest; None for a model folder whose `manifest.json` another tool wrote."""
    return None if store.has_foreign_manifest(folder) else store.read_manifest(folder)


def _epoch_to_continue(folder: Path, manifest: FinetuneManifest) -> Path:
    """Return the epoch of a finetune folder that the next round continues with; refuse one that is not there."""
    epoch = manifest.continue_with
    if not epoch or not (folder / epoch).is_dir():
        raise UserError(f"{folder}: epoch {epoch}, with which the next round continues, is not there; train again")
    return folder / epoch


def _require_foreign(folder: Path) -> None:
    """Refuse a checkpoint or an epoch of a finetune folder that lost its manifest: it is no model of another tool."""
    weights_io.refuse_tuned_weights(folder)
    if isinstance(_read_manifest(folder.absolute().parent), FinetuneManifest):
        raise UserError(f"{folder}: is an epoch of a round, but has no {store.MANIFEST}; restore it or train again")


def _existing_folder(name_or_path: str | None) -> Path | None:
    """Return the folder; None for a hub name, a package or a random model.

    Raises:
        UserError: the name can only be a folder's, and there is none.
    """
    if not name_or_path:
        return None
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    if name_or_path.startswith((".", "/")) or name_or_path.count("/") > 1:
        raise UserError(f"{name_or_path}: no such folder")
    return None


def _resolve_initialization(recipe: Recipe, device: str, precision: str | None) -> Checkpoint:
    """Return the checkpoint that a recipe starts from: its weights and lineage, with the recipe's own prompts."""
    source = resolve(recipe.tuning.init_from, None, device, precision)
    if source.manifest is None:
        raise UserError(f"tuning.init_from {recipe.tuning.init_from}: has no checkpoint manifest")
    changed = dataclasses.replace(source.recipe, name=recipe.name, prompts=recipe.prompts, training=recipe.training)
    return dataclasses.replace(source, recipe=changed, is_initialization=True)


def _resolve_checkpoint(
    folder: Path, manifest: CheckpointManifest, recipe: Recipe | None, device: str, precision: str | None
) -> Checkpoint:
    """Return the checkpoint that a manifest describes, its recipe and weights checked."""
    trained_recipe = loader.from_dict(manifest.recipe, str(folder / store.MANIFEST))
    if recipe is not None:
        _check_recipe(folder, trained_recipe, recipe)
    if not have_digest(manifest.weights, folder, trained_recipe.model if manifest.adapter else None):
        raise Refused(f"{folder}: the weights are not those that its manifest describes; restore or train again")
    own = native_precision(manifest.precision, device, str(folder)) if precision is None else precision
    options = InferenceOptions(resolve_precision(own, device), (device,))
    return Checkpoint(trained_recipe, manifest.weights, options, folder, manifest.adapter, manifest, manifest.lineage)


def _check_recipe(folder: Path, trained: Recipe, named: Recipe) -> None:
    """Refuse a recipe whose model or prompts differ from those that a checkpoint was trained with."""
    for section in ("model", "prompts"):
        changes = store.differences(_comparable(trained, section), _comparable(named, section), f"{section}.")
        if changes:
            raise Refused(
                f"{folder}: trained with another recipe ({'; '.join(changes[:3])}); train again or name that recipe"
            )


def _comparable(recipe: Recipe, section: str) -> dict:
    """Return a section without `LOCATION_KEYS`: the base model may have moved since the training."""
    values = dataclasses.asdict(getattr(recipe, section))
    return {key: value for key, value in values.items() if key not in LOCATION_KEYS}


def _resolve_hub_model(name: str, recipe: Recipe, options: InferenceOptions) -> Checkpoint:
    """Return another hub model in the place of the recipe's; nobody knows what it was trained on."""
    model = dataclasses.replace(recipe.model, name_or_path=name, revision=None, sha256=None)
    return Checkpoint(dataclasses.replace(recipe, model=model), base_model_digest(model), options)


def _is_base_folder(folder: Path, recipe: Recipe) -> bool:
    return folder.resolve() == Path(stand_in(recipe.model.name_or_path)).resolve()


def _is_base_name(name_or_path: str | None, recipe: Recipe) -> bool:
    base = recipe.model.name_or_path
    return name_or_path in (None, base, stand_in(base))


def _base_lineage(recipe: Recipe) -> dict[str, str] | None:
    """Return the lineage of the base model: empty, unless the recipe names one of our checkpoints as its base.

    Other tools also write files of the manifest's name; these say nothing about a lineage.
    """
    name = stand_in(recipe.model.name_or_path)
    if not (Path(name).is_dir() and has_manifest(name)):
        return {}
    return store.read_manifest(Path(name)).lineage


def recipe_for_model(name_or_path: str, model_class: str = "", pooling: str = "") -> Recipe | None:
    """Return the recipe for a model without a manifest; an adapter takes its base model's recipe.

    Args:
        model_class: FlagEmbedding's `--embedder_model_class`.
        pooling: FlagEmbedding's `--pooling_method`, which must be the recipe's.

    Returns:
        None where neither name nor class leads to a recipe.
    """
    config = Path(name_or_path) / weights_io.ADAPTER_CONFIG
    if not config.is_file():
        return loader.recipe_for_model(name_or_path, model_class, pooling)
    base = store.read_json(config).get("base_model_name_or_path") or ""
    recipe = loader.recipe_for_model(base, model_class, pooling)
    if recipe is None or base in (recipe.model.name_or_path, stand_in(recipe.model.name_or_path)):
        return recipe
    return dataclasses.replace(
        recipe, model=dataclasses.replace(recipe.model, name_or_path=base, revision=None, sha256=None)
    )


def has_manifest(name_or_path: str) -> bool:
    """Return whether a folder is a checkpoint or a finetune folder, whose manifest holds its recipe."""
    folder = Path(name_or_path)
    return folder.is_dir() and isinstance(_read_manifest(folder), CheckpointManifest | FinetuneManifest)


def check_base_model(source: Checkpoint, name_or_path: str) -> None:
    """Refuse an adapter over another base model than the one that it was trained on.

    Raises:
        UserError: `source` is no adapter.
        Refused: the weights of `name_or_path` are not those of the adapter's base model.
    """
    if not source.is_adapter:
        raise UserError(f"{source.name}: is not an adapter, so it needs no base model beside it")
    trained_on = source.recipe.model
    named = dataclasses.replace(trained_on, name_or_path=name_or_path)
    if len({weights_digest(locate_model(model), model.revision) for model in (named, trained_on)}) > 1:
        raise Refused(
            f"{source.name}: was trained on {trained_on.name_or_path}, whose weights are not those of "
            f"{name_or_path}; name that one"
        )


def save(
    embedder: SentenceTransformer,
    folder: Path,
    recipe: Recipe,
    precision: str,
    gathered: dict[str, Tensor] | None = None,
    **entries: Any,
) -> CheckpointManifest:
    """Write the weights into a folder and return the manifest, which `store.writing` puts beside them.

    Args:
        gathered: a sharded model's weights in one piece, as `weights_io.save_weights` takes them.
        entries: further keys of the manifest (parent, lineage, seed, round, epoch, ...).
    """
    weights_io.save_weights(embedder, folder, recipe.tuning, gathered)
    return build_manifest(embedder, folder, recipe, precision, **entries)


def build_manifest(
    embedder: SentenceTransformer, folder: Path, recipe: Recipe, precision: str, **entries: Any
) -> CheckpointManifest:
    """Return the manifest of weights that `weights_io.save_weights` wrote; arguments are those of `save`."""
    is_adapter = peft_methods.has_frozen_base(embedder)
    return CheckpointManifest(
        adapter=is_adapter,
        weights=adapter_digest(recipe.model, folder) if is_adapter else weights_digest(str(folder)),
        precision=precision,
        recipe=recipe.to_dict(),
        versions=library_versions(),
        **entries,
    )
