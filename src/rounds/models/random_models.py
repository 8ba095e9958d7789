"""Tiny models of random weights for tests, such as `random:mistral`; `random:mistral_lm` writes texts."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    MistralConfig,
    MistralForCausalLM,
    MistralModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Model,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLModel,
)

from rounds.artifacts import store
from rounds.artifacts.file_digests import cache_folder
from rounds.artifacts.manifests import RandomModelManifest
from rounds.data.synthetic import maths
from rounds.errors import UserError
from rounds.models.vision_language import IMAGE_END, IMAGE_PAD, IMAGE_START

VERSION = 1

VOCABULARY = 1000

MAX_LENGTH = 1024

KINDS = ("mistral", "mistral_lm", "qwen2", "qwen3_vl", "bert")


def random_model_folder(kind: str) -> Path:
    """Return the folder of a random model, built once in the user's cache (`ROUNDS_CACHE`, `~/.cache/rounds`).

    Raises:
        UserError: the kind is unknown.
    """
    if kind not in KINDS:
        known = ", ".join(f"random:{name}" for name in KINDS)
        raise UserError(f"model random:{kind}: is not one of {known}")
    folder, config = cache_folder() / f"random-{kind}", {"kind": kind, "version": VERSION}
    if not store.is_finished(folder, config):
        with store.writing(folder, RandomModelManifest(config=config)) as temporary:
            _write(kind, temporary)
    return folder


def _write(kind: str, folder: Path) -> None:
    tokenizer = _train_tokenizer(with_bos=not kind.startswith("qwen"))
    if kind == "qwen3_vl":
        tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_START, IMAGE_PAD, IMAGE_END]})
        Qwen2VLImageProcessorPil(patch_size=8, merge_size=2, temporal_patch_size=2).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _build_vision_language_model() if kind == "qwen3_vl" else _build_transformer(kind)
        model.save_pretrained(folder)


def _train_tokenizer(with_bos: bool) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_generated_texts(), trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if with_bos else "$A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=MAX_LENGTH
    )


def _generated_texts() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        maths.generate(Path(folder), questions=100, test_questions=10, seed=0)
        for name in ("train.csv", "misconception_mapping.csv"):
            yield from (Path(folder) / name).read_text(encoding="utf-8").splitlines()


def _build_transformer(kind: str) -> PreTrainedModel:
    shared = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_LENGTH,
        "pad_token_id": 0,
    }
    if kind == "bert":
        return BertModel(BertConfig(**shared))
    decoder = {**shared, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
    if kind == "mistral_lm":
        return MistralForCausalLM(MistralConfig(**decoder, sliding_window=None))
    if kind == "mistral":
        return MistralModel(MistralConfig(**decoder, sliding_window=None))
    return Qwen2Model(Qwen2Config(**decoder))


def _build_vision_language_model() -> PreTrainedModel:
    start, pad, end, video = (VOCABULARY + number for number in range(4))
    text = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "vocab_size": VOCABULARY + 3,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": MAX_LENGTH,
        "pad_token_id": 0,
        "rope_parameters": {
            "rope_type": "default",
            "mrope_section": [2, 1, 1],
            "mrope_interleaved": True,
            "rope_theta": 10000.0,
        },
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "depth": 2,
        "num_heads": 2,
        "patch_size": 8,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": 32,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }
    return Qwen3VLModel(
        Qwen3VLConfig(
            text_config=text,
            vision_config=vision,
            image_token_id=pad,
            vision_start_token_id=start,
            vision_end_token_id=end,
            video_token_id=video,
        )
    )
