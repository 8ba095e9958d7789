"""SPLADE: sparse vectors over the vocabulary, from the logits of a masked language model (arXiv:2109.10086).

The modules and the files are those of sentence-transformers' `SparseEncoder`: a transformer with its masked-LM head,
and `SpladePooling`. A base model without such a head gets one that starts near the identity: its vectors name the words
of a text and their neighbours among the word embeddings before any training.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import safe_open
from sentence_transformers import SentenceTransformer, SparseEncoder
from sentence_transformers.sparse_encoder.modules import SpladePooling
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

from rounds.errors import UserError
from rounds.models.loading import report_once

TASK = "fill-mask"  # sentence-transformers' name for transformers with a masked-LM head

SUPPORTED = {"pooling_strategy": "max", "activation_function": "relu"}  # of SpladePooling's settings

SHIFT = 4.0  # GELU leaves numbers above some 3 as they are; the layer norm behind it takes the shift out again

THRESHOLD = 5.0  # a new head's logits below this many standard deviations of chance count as zero

MOST_LOGITS = 2**25  # that are held at once: 128 MiB in fp32

MODULES_FILE = "modules.json"


class MaxPooling(SpladePooling):
    """SpladePooling that computes the logits itself, some texts at a time: the same vectors in a bounded memory.

    log(1 + relu(x)) rises with x, so that it may follow the maximum over a text's tokens, and most logits can be
    forgotten. For that, the decoder passes its input on.

    Args:
        model: the masked language model, whose decoder is changed in place.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(**SUPPORTED)
        decoder = model.get_output_embeddings()
        decoder.forward = lambda states: states
        self.__dict__["decoder"] = decoder  # not a submodule: its weights are the model's

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Set `sentence_embedding`, (texts, vocabulary), from the decoder's input in `token_embeddings`."""
        states = features["token_embeddings"]
        if "cu_seq_lens_q" in features:
            states, lengths = states[0], features["cu_seq_lens_q"].diff().tolist()
        else:
            mask = features["attention_mask"].bool()
            states, lengths = states[mask], mask.sum(dim=1).tolist()
        highest = HighestLogits.apply(states, self.decoder.weight, self.decoder.bias, lengths)
        return {**features, "sentence_embedding": highest.log1p()}


class HighestLogits(torch.autograd.Function):
    """The highest logit of each word over a text's tokens, and 0 where none is above.

    Nearly all of them are 0 and have no gradient, so that the backward pass is a product with a sparse matrix.
    """

    @staticmethod
    def forward(ctx, states: Tensor, weight: Tensor, bias: Tensor | None, lengths: list[int]) -> Tensor:
        """Return (texts, vocabulary) float32.

        Args:
            states: (tokens, dim), the texts one behind the other.
            weight: (vocabulary, dim).
            bias: (vocabulary,), or None.
            lengths: tokens of each text.
        """
        needs_places = any(ctx.needs_input_grad)
        highest, places, first = states.new_empty(len(lengths), len(weight), dtype=torch.float32), [], 0
        for texts in _groups(lengths, max(1, MOST_LOGITS // len(weight))):
            count = sum(lengths[text] for text in texts)
            logits = nn.functional.linear(states[first : first + count], weight, bias)
            for text, text_logits in zip(texts, logits.split([lengths[text] for text in texts]), strict=True):
                if needs_places:
                    best, tokens = text_logits.max(dim=0)
                    words = (best > 0).nonzero()[:, 0]
                    places.append(torch.stack([torch.full_like(words, text), words, tokens[words] + first]))
                else:
                    best = text_logits.amax(dim=0)
                highest[text] = best.float().relu_()
                first += len(text_logits)
        if needs_places:
            ctx.save_for_backward(states, weight, torch.cat(places, dim=1))
        return highest

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of states, weight and bias."""
        states, weight, (texts, words, tokens) = ctx.saved_tensors
        by_states = by_weight = by_bias = None
        needs_states, needs_weight, needs_bias, _ = ctx.needs_input_grad
        values = gradient[texts, words].float()
        shape = (len(states), len(weight))
        with torch.autocast(gradient.device.type, enabled=False):
            if needs_states:
                by_logits = _sparse(tokens, words, values, shape)
                by_states = torch.sparse.mm(by_logits, weight.float()).to(states.dtype)
            if needs_weight:
                by_logits = _sparse(words, tokens, values, shape[::-1])
                by_weight = torch.sparse.mm(by_logits, states.float()).to(weight.dtype)
            if needs_bias:
                by_bias = values.new_zeros(len(weight)).index_add(0, words, values).to(weight.dtype)
        return by_states, by_weight, by_bias, None


def _sparse(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    return torch.sparse_coo_tensor(torch.stack([rows, columns]), values, shape, check_invariants=False)


def _groups(lengths: list[int], most: int) -> Iterator[list[int]]:
    """Yield consecutive texts, by number, that have at most `most` tokens together; a longer text stands alone.

    >>> list(_groups([2, 3, 9, 1], 5))
    [[0, 1], [2], [3]]
    """
    group, used = [], 0
    for text, length in enumerate(lengths):
        if group and used + length > most:
            yield group
            group, used = [], 0
        group.append(text)
        used += length
    if group:
        yield group


def is_sparse(embedder: nn.Module) -> bool:
    """Return whether an embedder's vectors are sparse."""
    return any(isinstance(module, SpladePooling) for module in embedder)


def as_sparse_encoder(embedder: SentenceTransformer) -> SparseEncoder:
    """Return the embedder as sentence-transformers' SparseEncoder with the same weights, to be saved."""
    modules = [embedder[0], SpladePooling(**SUPPORTED)]
    return SparseEncoder(modules=modules, device=str(embedder.device), similarity_fn_name="dot")


def check_base_model(folder: Path, config: PretrainedConfig, name: str) -> None:
    """Refuse base models that have no masked-LM head, or that pool its logits in another way.

    Args:
        folder: the model's folder.
        config: the transformer's configuration.
        name: the model's name, for messages.

    Raises:
        UserError: the architecture has no masked-LM head, or `modules.json` asks for other modules.
    """
    has_own_class = "AutoModelForMaskedLM" in (getattr(config, "auto_map", None) or {})
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING and not has_own_class:
        raise UserError(
            f"model {name}: model.pooling splade needs a masked-LM head, which models of type {config.model_type} do "
            "not have; take an encoder such as BERT, or another model.pooling"
        )
    file = folder / MODULES_FILE
    if not file.is_file():
        return
    modules = json.loads(file.read_text(encoding="utf-8"))
    kinds = [module["type"].rpartition(".")[2] for module in modules]
    if "SpladePooling" not in kinds and not {"Router", "SparseStaticEmbedding", "SparseAutoEncoder"} & set(kinds):
        return  # a dense model, whose transformer alone is read
    settings = _read_settings(folder / modules[-1]["path"] / "config.json") if kinds[-1] == "SpladePooling" else {}
    others = {key: settings[key] for key, value in SUPPORTED.items() if settings.get(key, value) != value}
    if len(kinds) != 2 or kinds[-1] != "SpladePooling" or others:
        asked = ", ".join(f"{key} {value}" for key, value in others.items()) or f"modules {', '.join(kinds)}"
        raise UserError(
            f"model {name}: model.pooling splade reads a transformer and the maximum of log(1 + relu(logits)), and "
            f"this model has {asked}; take another model"
        )


def _read_settings(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def masked_language_model(embedder: SentenceTransformer) -> PreTrainedModel:
    """Return the transformer with its masked-LM head, without an adapter around it."""
    model = embedder[0].model
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _head_parameters(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """Return the parameters of the masked-LM head by name, without those that it shares with the encoder."""
    encoder = {id(parameter) for parameter in model.base_model.parameters()}
    return {name: value for name, value in model.named_parameters() if id(value) not in encoder}


def head_patterns(model: PreTrainedModel) -> list[str]:
    """Return regular expressions for the names of the head's modules, for peft; none of a dense model."""
    names = _head_modules(model) if type(model).__name__.endswith("ForMaskedLM") else ()
    return [rf"(?:.*\.)?{re.escape(name)}(?:\..*)?" for name in names]


def head_parameter_names(embedder: SentenceTransformer) -> set[str]:
    """Return the names of the head's own parameters among the embedder's; none of a dense embedder."""
    if not is_sparse(embedder):
        return set()
    head = {id(parameter) for parameter in _head_parameters(masked_language_model(embedder)).values()}
    return {name for name, parameter in embedder.named_parameters() if id(parameter) in head}


def optional_keys(embedder: SentenceTransformer) -> set[str]:
    """Return the keys of a sparse model's state that its file may lack: those of tied weights and of a new head.

    A tied weight has several keys, of which a file holds one.
    """
    if not is_sparse(embedder):
        return set()
    model = masked_language_model(embedder)
    tied, head = getattr(model, "all_tied_weights_keys", None) or {}, set(_head_parameters(model))
    keys = {*tied, *head.intersection(tied.values())}
    return keys | head if getattr(model, "has_new_head", False) else keys


def _head_modules(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Return the modules next to the encoder in a masked language model, which are its head, by name."""
    return {name: module for name, module in model.named_children() if module is not model.base_model}


def missing_head(folder: Path, name: str, trust_remote_code: bool = False) -> tuple[str, ...]:
    """Return the beginnings of the names of the masked-LM head's weights if a model's folder lacks them; else nothing.

    Args:
        folder: the model's folder.
        name: the model's name, for messages.

    Raises:
        UserError: the model cannot make such vectors (`check_base_model`).
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    check_base_model(folder, config, name)
    with torch.device("meta"):
        model = AutoModelForMaskedLM.from_config(config, trust_remote_code=trust_remote_code)
    matrices = {key for key, value in _head_parameters(model).items() if key.endswith(".weight") and value.ndim == 2}
    return () if matrices <= _stored_names(folder) else tuple(f"{module}." for module in _head_modules(model))


def _stored_names(folder: Path) -> set[str]:
    """Return the names of the weights that a model folder holds; none where it has no safetensors."""
    file, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if file.is_file():
        with safe_open(file, framework="pt") as stored:
            return set(stored.keys())
    if index.is_file():
        return set(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}))
    weights = folder / "pytorch_model.bin"
    return set(torch.load(weights, map_location="meta", weights_only=True)) if weights.is_file() else set()


@torch.no_grad()
def start_head(model: PreTrainedModel) -> None:
    """Start a masked-LM head near the identity, in place: a logit is the product of state and word embedding.

    A token's state passes the transform unchanged but for its length and mean. The decoder is tied to the word
    embeddings. Its bias lets only logits far above chance count, so that vectors are sparse from the start. The mark
    `has_new_head` on the model says that it was started.
    """
    model.has_new_head = True
    decoder, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if decoder.weight is not embeddings.weight:
        model.config.tie_word_embeddings = True
        decoder.weight = embeddings.weight
    modules = [module for child in _head_modules(model).values() for module in child.modules()]
    is_centered = any(isinstance(module, nn.LayerNorm) for module in modules)
    generator = torch.Generator().manual_seed(0)
    for module in modules:
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()
        elif isinstance(module, nn.Linear) and module is not decoder:
            _start_transform(module, SHIFT if is_centered else 0.0, generator)
    if decoder.bias is not None:
        # States have the length sqrt(dim) behind the layer norm: a random one's logits vary by a row's length.
        decoder.bias.fill_(-THRESHOLD * float(embeddings.weight.float().norm(dim=1).mean()))


def _start_transform(layer: nn.Linear, shift: float, generator: torch.Generator) -> None:
    """Start a layer as the identity, or as an orthogonal projection where its output has other dimensions."""
    weight = torch.eye(layer.in_features)
    if layer.in_features != layer.out_features:
        weight = nn.init.orthogonal_(torch.empty(layer.out_features, layer.in_features), generator=generator)
    layer.weight.copy_(weight)
    if layer.bias is not None:
        layer.bias.fill_(shift)


def report_new_head(embedder: SentenceTransformer, name: str) -> None:
    """Print once that a model's head is a new one."""
    if is_sparse(embedder) and getattr(masked_language_model(embedder), "has_new_head", False):
        report_once(
            f"model {name}: has no masked-LM head; one that is tied to its word embeddings starts near the identity"
        )
