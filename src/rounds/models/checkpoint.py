"""Checkpoint: a folder with an adapter or a whole model, and the `manifest.json` that rebuilds it.

The manifest holds recipe, base model, parent checkpoint, lineage, seed and versions. `resolve` says what a name
or folder is, `load` turns it into a model and refuses weights that do not fit.
"""

import dataclasses
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sentence_transformers import SentenceTransformer
from torch import Tensor

from rounds.artifacts import hashing, store
from rounds.config import loader
from rounds.config.recipe import FOUR_BIT_PRECISIONS, LAYER_POOLINGS, Recipe, Tuning
from rounds.errors import Refused, UserError
from rounds.models import backbone, dual_encoder, peft_methods, weights_io
from rounds.models.devices import resolve_device
from rounds.models.precision import resolve_precision
from rounds.models.weights import locate_model, locate_vision_model, stand_in, weights_digest

ENGINES = ("rounds", "flagembedding")

TEXTS = ("query", "latex")  # prompts that make the texts, which a run's fingerprint holds themselves

VERSIONED = ("torch", "transformers", "sentence-transformers", "peft")


@dataclass(frozen=True)
class Checkpoint:
    """A model to encode with, before its weights are loaded.

    Attributes:
        recipe: how to build it; from the manifest where there is one.
        folder: its folder; None for the recipe's base model.
        adapter: whether the folder holds an adapter rather than all weights.
        manifest: None for base models and foreign checkpoints.
        trained: questions that it and its ancestors were trained on (see `lineage`); None where nobody knows.
        weights: SHA-256 over all weights that make up the model.
        precision: what it computes in: `fp32`, `bf16`, `fp16`, or `nf4`, `fp4` for 4-bit weights.
        device: where it computes.
        engine: who encodes: `rounds`, or `flagembedding` for FlagEmbedding's own model class.
        devices: where it encodes, a process each and `device` first; empty: on `device`.
        dim: how many of a vector's numbers count in a run; None: all.
        shown: what of texts on pictures it is given (`pictures.SHOWN`).
        is_start: another task's checkpoint that a recipe starts from (`tuning.init_from`).
    """

    recipe: Recipe
    folder: Path | None
    adapter: bool
    manifest: dict | None
    trained: dict[str, str] | None
    weights: str
    precision: str
    device: str
    engine: str = "rounds"
    devices: tuple[str, ...] = ()
    dim: int | None = None
    shown: str = "with"
    is_start: bool = False

    @property
    def is_base(self) -> bool:
        """Whether this is the recipe's base model, untrained."""
        return self.folder is None

    @property
    def kind(self) -> str:
        """`base`, `adapter`, `merged` or `full`."""
        if self.is_base or self.adapter:
            return "base" if self.is_base else "adapter"
        return "merged" if "merged" in (self.manifest or {}) else "full"

    @property
    def key(self) -> dict:
        """Everything of the model that a run depends on."""
        model, prompts = self.recipe.model, self.recipe.prompts
        layers = [model.pooling_layers, model.pooling_tokens] if model.pooling in LAYER_POOLINGS else []
        seen = model.vision
        layers += [seen.join, seen.image_size if seen.is_joint else seen.weight] if seen.reads_images else []
        double = {"double_quant": True} if model.double_quant and self.precision in FOUR_BIT_PRECISIONS else {}
        return {
            "weights": self.weights,
            "precision": self.precision,
            **double,
            **({} if self.dim is None else {"dim": self.dim}),
            **({} if self.engine == "rounds" else {"engine": self.engine}),
            **({} if self.shown == "with" else {"pictures": self.shown}),
            "pooling": [model.pooling, model.normalize, model.padding_side, *layers],
            "prompts": {name: value for name, value in vars(prompts).items() if name not in TEXTS},
        }

    @property
    def name(self) -> str:
        """How tables call it."""
        return self.recipe.model.name_or_path if self.folder is None else str(self.folder)

    def by(self, engine: str) -> "Checkpoint":
        """The same checkpoint, encoded by another engine."""
        if engine not in ENGINES:
            raise UserError(f"engine {engine!r} is not one of {', '.join(ENGINES)}")
        return dataclasses.replace(self, engine=engine)

    def on(self, devices: tuple[str, ...]) -> "Checkpoint":
        """The same checkpoint, encoding on these devices (`backbone.resolve_devices`) at once."""
        return dataclasses.replace(self, device=devices[0], devices=devices)

    @property
    def all_devices(self) -> tuple[str, ...]:
        """Where it encodes."""
        return self.devices or (self.device,)

    def cut(self, dim: int | None) -> "Checkpoint":
        """The same checkpoint, its vectors cut to their first `dim` numbers (and of unit length again, where it
        normalizes)."""
        if dim is not None and dim < 1:
            raise UserError(f"truncate_dim {dim}: must be at least 1")
        return dataclasses.replace(self, dim=dim)

    @property
    def normalizes(self) -> bool:
        """Whether its vectors have unit length; the base model has no projection head."""
        return self.recipe.normalizes if self.own_tuning else self.recipe.model.normalize

    def load(self) -> SentenceTransformer:
        """Load the weights; missing or unexpected keys are an error."""
        if self.folder is None:
            return backbone.load(self.recipe, self.precision, self.device)
        if not self.has_sides:
            return self._load()
        sides = {kind: dataclasses.replace(self, folder=self.folder / kind)._load() for kind in dual_encoder.KINDS}
        embedder = SentenceTransformer(modules=list(sides["query"]), device=self.device)
        dual_encoder.join(embedder, sides)
        return embedder.eval()

    @property
    def has_sides(self) -> bool:
        """Whether queries and passages have weights of their own, in a subfolder each."""
        return self.own_tuning is not None and self.own_tuning.separate

    def _load(self) -> SentenceTransformer:
        if self.adapter:
            embedder = backbone.load(self.recipe, self.precision, self.device)
            weights_io.attach_adapter(embedder, self.folder, self.own_tuning)
            return embedder.to(self.device).eval()
        embedder = backbone.load(self.recipe, self.precision, self.device, path=str(self.folder))
        weights_io.check_model_keys(embedder, self.folder, foreign=self.manifest is None)
        if self.own_tuning:
            peft_methods.build(embedder, self.own_tuning, whole=True)
            weights_io.load_unfrozen(embedder, self.folder, self.own_tuning)
        return embedder

    @property
    def own_tuning(self) -> Tuning | None:
        """How it was tuned; None for weights that are not ours."""
        return self.recipe.tuning if self.manifest else None


def resolve(
    name_or_path: str | None, recipe: Recipe | None = None, device: str | None = None, precision: str | None = None
) -> Checkpoint:
    """Say what a name or folder is.

    Args:
        name_or_path: a checkpoint folder, a finetune stage's folder (its continued epoch is taken), a model folder
            or hub name, or None for the recipe's base model.
        recipe: needed for what has no manifest; for a checkpoint, its model and prompts must agree with the
            manifest's.
        precision: compute in this precision instead of the checkpoint's own.
    """
    device = resolve_device(device)
    if name_or_path is None and recipe is not None and recipe.tuning.init_from:
        return _start(recipe, device, precision)
    folder = Path(name_or_path) if name_or_path and Path(name_or_path).is_dir() else None
    if name_or_path and folder is None and (name_or_path.startswith((".", "/")) or name_or_path.count("/") > 1):
        raise UserError(f"{name_or_path}: no such folder")
    manifest = store.read_manifest(folder) if folder else None
    if manifest and manifest.get("kind") == "finetune":
        folder = folder / manifest.get("continue_with", "")
        manifest = store.read_manifest(folder)
    if manifest and manifest.get("kind") == "checkpoint":
        try:
            return _own(folder, manifest, recipe, device, precision)
        except KeyError as error:
            raise UserError(f"{folder / store.MANIFEST}: key {error} is missing; train again") from None
    recipe = recipe or recipe_of(name_or_path)
    if recipe is None:
        found = "has no checkpoint manifest" if folder else "no such folder"
        raise UserError(f"{name_or_path}: {found}; name the recipe of a model that is not ours with --recipe")
    own_precision = resolve_precision(precision or recipe.model.precision, device)
    adapter = folder is not None and (folder / weights_io.ADAPTER_CONFIG).is_file()
    if folder and not adapter and folder.resolve() != Path(stand_in(recipe.model.name_or_path)).resolve():
        weights = weights_digest(str(folder))
        return Checkpoint(recipe, folder, False, None, None, weights, own_precision, device)
    trained = _base_lineage(recipe)
    own_names = (None, recipe.model.name_or_path, stand_in(recipe.model.name_or_path))
    if not adapter and folder is None and name_or_path not in own_names:
        recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, name_or_path=name_or_path))
        trained = None  # some other model of a hub
    base = _base_digest(recipe)
    if not adapter:
        return Checkpoint(recipe, None, False, None, trained, base, own_precision, device)
    weights = hashing.sha256_json([base, weights_digest(str(folder))])
    return Checkpoint(recipe, folder, True, None, None, weights, own_precision, device)


def _start(recipe: Recipe, device: str, precision: str | None) -> Checkpoint:
    """The weights that a recipe starts from, and the lineage that they bring; prompts are the recipe's own."""
    found = resolve(recipe.tuning.init_from, None, device, precision)
    if found.manifest is None:
        raise UserError(f"tuning.init_from {recipe.tuning.init_from}: has no checkpoint manifest")
    own = dataclasses.replace(found.recipe, name=recipe.name, prompts=recipe.prompts, training=recipe.training)
    return dataclasses.replace(found, recipe=own, is_start=True)


def recipe_of(name_or_path: str, model_class: str = "", pooling: str = "") -> Recipe | None:
    """`recipe.of_model` for a model without a manifest of ours; a foreign adapter takes its base model's recipe."""
    config = Path(name_or_path) / weights_io.ADAPTER_CONFIG
    if not config.is_file():
        return loader.recipe_for_model(name_or_path, model_class, pooling)
    base = store.read_json(config).get("base_model_name_or_path") or ""
    found = loader.recipe_for_model(base, model_class, pooling)
    if found is None or base in (found.model.name_or_path, stand_in(found.model.name_or_path)):
        return found
    return dataclasses.replace(
        found, model=dataclasses.replace(found.model, name_or_path=base, revision=None, sha256=None)
    )


def is_own(name_or_path: str) -> bool:
    """Whether a folder has a manifest of ours, which says its recipe."""
    folder = Path(name_or_path)
    manifest = (store.read_manifest(folder) if folder.is_dir() else None) or {}
    return manifest.get("kind") in ("checkpoint", "finetune")


def check_base(source: Checkpoint, name_or_path: str) -> None:
    """Refuse an adapter over another base model than the one that it was trained on.

    Raises:
        UserError: the base model's weights are not those of `name_or_path`, or `source` is no adapter.
    """
    if not source.adapter:
        raise UserError(f"{source.name}: is not an adapter, so it needs no base model beside it")
    own = source.recipe.model
    named = dataclasses.replace(own, name_or_path=name_or_path)
    if len({weights_digest(locate_model(model), model.revision) for model in (named, own)}) > 1:
        raise Refused(
            f"{source.name}: was trained on {own.name_or_path}, whose weights are not those of {name_or_path}; "
            "name that one"
        )


def _base_lineage(recipe: Recipe) -> dict[str, str] | None:
    """A recipe may name one of our checkpoints as its base: it brings its lineage along."""
    folder = Path(stand_in(recipe.model.name_or_path))
    manifest = store.read_manifest(folder) if folder.is_dir() else None
    return manifest.get("lineage") if manifest else {}


def _own(folder: Path, manifest: dict, recipe: Recipe | None, device: str, precision: str | None) -> Checkpoint:
    own = loader.from_dict(manifest["recipe"], str(folder / store.MANIFEST))
    if recipe is not None:
        for section in ("model", "prompts"):
            changed = store.differences(_computing(own, section), _computing(recipe, section), f"{section}.")
            if changed:
                raise Refused(
                    f"{folder}: trained with another recipe ({'; '.join(changed[:3])}); train again or name that recipe"
                )
    weights = weights_digest(str(folder))
    if manifest["adapter"]:
        weights = hashing.sha256_json([_base_digest(own), weights])
    if weights != manifest["weights"]:
        raise Refused(f"{folder}: the weights are not those that its manifest describes; restore or train again")
    computed = resolve_precision(precision or manifest["precision"], device)
    return Checkpoint(own, folder, manifest["adapter"], manifest, manifest["lineage"], weights, computed, device)


def _computing(recipe: Recipe, section: str) -> dict:
    """A section without the keys that only say where the base model lies: the checkpoint brings its own."""
    values = dataclasses.asdict(getattr(recipe, section))
    return {key: value for key, value in values.items() if key not in ("name_or_path", "revision", "sha256")}


def _base_digest(recipe: Recipe) -> str:
    model = recipe.model
    text = weights_digest(locate_model(model), model.revision)
    if not model.vision.name_or_path:
        return text
    return hashing.sha256_json([text, weights_digest(locate_vision_model(model), model.vision.revision)])


def save(
    embedder: SentenceTransformer,
    folder: Path,
    recipe: Recipe,
    precision: str,
    about: dict,
    gathered: dict[str, Tensor] | None = None,
) -> dict:
    """Write weights and return the manifest for `artefact.writing` to put beside them.

    Args:
        about: what else the manifest says (parent, lineage, seed, round, epoch, ...).
        gathered: as `save_weights` takes it.
    """
    weights_io.save_weights(embedder, folder, recipe.tuning, gathered)
    return describe(embedder, folder, recipe, precision, about)


def describe(embedder: SentenceTransformer, folder: Path, recipe: Recipe, precision: str, about: dict) -> dict:
    """The manifest of weights that `save_weights` wrote; arguments as `save`'s."""
    adapter = peft_methods.keeps_base(embedder)
    weights = weights_digest(str(folder))
    if adapter:
        weights = hashing.sha256_json([_base_digest(recipe), weights])
    return {
        "kind": "checkpoint",
        "adapter": adapter,
        "weights": weights,
        "precision": precision,
        "recipe": recipe.to_dict(),
        "versions": versions(),
        **about,
    }


def versions() -> dict[str, str]:
    """Versions of the libraries that shape a checkpoint."""
    found = {}
    for name in VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found
