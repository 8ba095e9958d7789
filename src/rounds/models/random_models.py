"""Tiny random models for tests: `random:mistral`, `random:qwen2`, `random:qwen3_vl`, `random:bert`."""

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from rounds.artifacts import store
from rounds.data.synthetic import maths
from rounds.errors import UserError
from rounds.models import vision_language

RANDOM_VOCABULARY = 1000


def random_model(kind: str) -> Path:
    """Build (once, in the user's cache) a tiny model of random weights with a tokenizer of generated text."""
    if kind not in ("mistral", "qwen2", "qwen3_vl", "bert"):
        raise UserError(f"model random:{kind}: known are random:mistral, random:qwen2, random:qwen3_vl, random:bert")
    cache = Path(os.environ.get("ROUNDS_CACHE", Path.home() / ".cache" / "rounds"))
    folder = cache / f"random-{kind}"
    if store.is_finished(folder, {"kind": kind, "version": 1}):
        return folder
    with store.writing(folder, {"config": {"kind": kind, "version": 1}}) as temporary:
        tokenizer = _random_tokenizer(with_bos=not kind.startswith("qwen"))
        if kind == "qwen3_vl":
            tokenizer.add_special_tokens(
                {
                    "additional_special_tokens": [
                        vision_language.IMAGE_START,
                        vision_language.IMAGE_PAD,
                        vision_language.IMAGE_END,
                    ]
                }
            )
            _random_image_processor().save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = _random_vision_language_model() if kind == "qwen3_vl" else _random_transformer(kind)
            model.save_pretrained(temporary)
    return folder


def _random_tokenizer(with_bos: bool):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=RANDOM_VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_sample_texts(), trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if with_bos else "$A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=1024
    )


def _sample_texts() -> Iterator[str]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        maths.generate(Path(folder), questions=100, test_questions=10, seed=0)
        for name in ("train.csv", "misconception_mapping.csv"):
            yield from (Path(folder) / name).read_text(encoding="utf-8").splitlines()


def _random_transformer(kind: str):
    from transformers import BertConfig, BertModel, MistralConfig, MistralModel, Qwen2Config, Qwen2Model

    shared = {
        "vocab_size": RANDOM_VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 1024, "pad_token_id": 0,
    }  # fmt: skip
    if kind == "bert":
        return BertModel(BertConfig(**shared))
    decoder = {**shared, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
    if kind == "mistral":
        return MistralModel(MistralConfig(**decoder, sliding_window=None))
    return Qwen2Model(Qwen2Config(**decoder))


def _random_image_processor():
    from transformers import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(patch_size=8, merge_size=2, temporal_patch_size=2)


def _random_vision_language_model():
    from transformers import Qwen3VLConfig, Qwen3VLModel

    sizes = {"hidden_size": 32, "intermediate_size": 64}
    text = {
        **sizes, "vocab_size": RANDOM_VOCABULARY + 3, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 1024, "pad_token_id": 0,
        "rope_parameters": {
            "rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True, "rope_theta": 10000.0,
        },
    }  # fmt: skip
    seeing = {
        **sizes, "depth": 2, "num_heads": 2, "patch_size": 8, "spatial_merge_size": 2, "temporal_patch_size": 2,
        "out_hidden_size": 32, "num_position_embeddings": 64, "deepstack_visual_indexes": [0],
    }  # fmt: skip
    start, pad, end = (RANDOM_VOCABULARY + number for number in range(3))
    return Qwen3VLModel(Qwen3VLConfig(
        text_config=text, vision_config=seeing, image_token_id=pad, vision_start_token_id=start,
        vision_end_token_id=end, video_token_id=RANDOM_VOCABULARY + 3,
    ))  # fmt: skip
