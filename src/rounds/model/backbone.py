"""Backbone: a recipe's base model from a hub, a folder, a Python package or random weights."""

import dataclasses
import importlib.util
import os
import resource
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Transformer

from rounds import artefact
from rounds.errors import UserError
from rounds.model import joint, packing, pooling, towers, vision
from rounds.recipe import DEFAULT_MODEL, FOUR_BITS, STAND_IN, Model, Recipe

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
RANDOM_VOCABULARY = 1000


def resolve_device(device: str | None) -> str:
    """`cuda:0`, `cpu`, ...; None or empty takes a GPU where there is one."""
    if not device:
        return "cuda" if torch.cuda.is_available() else "cpu"
    _check_single(device)
    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise UserError(f"device {device}: this machine has no CUDA GPU; leave the flag out or pass cpu")
        index = device.partition(":")[2]
        if index and not (index.isdigit() and int(index) < torch.cuda.device_count()):
            raise UserError(f"device {device}: this machine has {torch.cuda.device_count()} CUDA GPU(s)")
    elif device != "cpu":
        raise UserError(f"device {device!r} is not cpu, cuda or cuda:N")
    return device


def resolve_devices(devices: str | None) -> tuple[str, ...]:
    """`cuda:0,cuda:1`, `cpu,cpu`, ... -> each of them; a single one, or none, as `resolve_device` takes it.

    Raises:
        UserError: CPUs and GPUs are mixed, or a GPU is named twice.
    """
    names = (devices or "").split(",")
    if len({name.partition(":")[0] for name in names}) > 1:
        raise UserError(f"devices {devices}: must be of one kind; name GPUs only (cuda:0,cuda:1) or cpu,cpu")
    found = tuple(map(resolve_device, names))
    if found[0] != "cpu" and len({name.partition(":")[2] or "0" for name in found}) < len(found):
        raise UserError(f"devices {devices}: names a GPU twice; name each once, such as cuda:0,cuda:1")
    return found


def _check_single(device: str) -> None:
    if "," in device:
        raise UserError(
            f"device {device}: only mining, evaluation and submission take several; name one "
            "(NPROC=2 trains in two processes)"
        )


def one_card(device: str) -> str:
    """Make one CUDA card the only visible one: the Trainer would spread over all, and change the batch size.

    Under torchrun each process takes the card of its own rank. Call it before anything else touches CUDA.
    """
    _check_single(device)
    if device and not device.startswith("cuda"):
        return device
    if rank := os.environ.get("LOCAL_RANK"):  # the Trainer takes the card of this number
        return f"cuda:{rank}" if torch.cuda.is_available() else device
    index = device.partition(":")[2] or "0"
    visible = [card for card in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if card]
    if index.isdecimal():
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[int(index)] if int(index) < len(visible) else index
    return "cuda:0" if device else ""


def peak_memory(device: str) -> float:
    """MiB held at most so far: of the card, or of the process where there is none."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resolve_precision(precision: str, device: str) -> str:
    """`auto` -> bf16 where the device computes in it natively, else fp16 on a GPU and fp32 on a CPU."""
    if precision not in ("auto", *DTYPES, *FOUR_BITS):
        raise UserError(f"precision {precision!r} is not one of auto, {', '.join([*DTYPES, *FOUR_BITS])}")
    if precision in FOUR_BITS and importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(f"precision {precision}: needs bitsandbytes; pip install '.[four_bits]' brings it")
    if precision == "fp16" and device == "cpu":
        raise UserError("precision fp16: CPUs do not train or encode in it; use bf16 or fp32")
    if precision != "auto":
        return precision
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"


def device_name(device: str) -> str:
    """The device with its card's name."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device


def compute_dtype(precision: str, device: str) -> torch.dtype:
    """What matrix products are computed in; 4-bit weights are unpacked to what `auto` takes."""
    return DTYPES[resolve_precision("auto", device) if precision in FOUR_BITS else precision]


def resolve_attention(attention: str, device: str) -> str:
    """`auto` -> FlashAttention where it is installed and the card can (Ampere and later), else SDPA; packed on CPUs."""
    if attention == "auto":
        capable = device.startswith("cuda") and torch.cuda.get_device_capability() >= (8, 0)
        attention = "flash_attention_2" if capable and importlib.util.find_spec("flash_attn") else "sdpa"
    return packing.NAME if attention == "sdpa" and device == "cpu" else attention


def stand_in(name_or_path: str) -> str:
    """ROUNDS_MODEL in place of the reference's model, where it is set."""
    return (os.environ.get(STAND_IN) or name_or_path) if name_or_path == DEFAULT_MODEL else name_or_path


def locate(model: Model) -> str:
    """The folder (or hub name) that `name_or_path` stands for, its weights checked where a digest is given."""
    name_or_path = stand_in(model.name_or_path)
    kind, colon, name = name_or_path.partition(":")
    if kind == "package" and colon:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.origin:
            raise UserError(f"model {model.name_or_path}: package {name} is not installed; run make setup")
        path = Path(spec.origin).parent / "model"
    elif kind == "random" and colon:
        path = _random_model(name)
    else:
        path = Path(name_or_path)
        if not path.is_dir():
            if path.is_absolute() or name_or_path.startswith("."):
                raise UserError(f"model {name_or_path}: no such folder")
            if model.sha256:
                _check_digest(_snapshot(name_or_path, model.revision) / "model.safetensors", model.sha256)
            return name_or_path
    if model.sha256:
        _check_digest(path / "model.safetensors", model.sha256)
    return str(path)


def locate_vision(model: Model) -> str:
    """The folder (or hub name) of the recipe's vision model."""
    name, revision = model.vision.name_or_path, model.vision.revision
    return locate(dataclasses.replace(model, name_or_path=name, revision=revision, sha256=None))


def _check_digest(file: Path, expected: str) -> None:
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    found = artefact.sha256_file(file)
    if found != expected:
        raise UserError(
            f"{file}: SHA-256 is {found[:12]}..., the recipe expects {expected[:12]}...; reinstall the model"
        )


def load(recipe: Recipe, precision: str, device: str, path: str | None = None) -> SentenceTransformer:
    """The base model with the recipe's pooling, on `device`, in evaluation mode.

    Args:
        path: a folder with all weights that takes the base model's place (a fully fine-tuned checkpoint).
    """
    model = recipe.model
    shared = {"trust_remote_code": model.trust_remote_code}
    if path is None:
        shared["revision"] = model.revision
    try:
        with joint.tokenizer_alone() if model.vision.is_joint else nullcontext():
            transformer = Transformer(
                path or locate(model),
                model_kwargs={**weights_arguments(recipe, precision, device), **shared},
                processor_kwargs={"padding_side": model.padding_side, **shared},
                config_kwargs={**shared, **dropout(model.dropout)},
            )
    except (OSError, ValueError, ImportError) as error:
        raise UserError(
            f"model {path or model.name_or_path}: cannot be loaded ({' '.join(str(error).split())[:200]})"
        ) from None
    transformer.register_forward_hook(_in_full)
    modules = [transformer, *pooling.modules(transformer, model)]
    if model.normalize:
        modules.append(Normalize())
    if model.vision.name_or_path:
        dim = pooling.of(modules).get_embedding_dimension()
        seeing = locate_vision(model)
        modules.append(vision.read(seeing, dim, model.vision, model.normalize, model.vision.revision).to(device))
    if model.vision.is_joint:
        modules.append(joint.attach(transformer, locate(model), model.vision.image_size, model.revision))
    embedder = SentenceTransformer(modules=modules, device=device).eval()
    _prepare_tokenizer(embedder, model)
    _freeze_pooler(embedder)
    for module in embedder.modules():
        # In evaluation mode bitsandbytes repacks the weights for CPUs, and gradients through them are then garbage.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return embedder


def weights_arguments(recipe: Recipe, precision: str, device: str) -> dict:
    """transformers' keyword arguments for attention, precision and quantization of a model's weights."""
    # Half-precision weights only where they are frozen: full fine-tuning keeps fp32 weights and autocasts.
    half = recipe.tuning.method != "full" or precision in FOUR_BITS
    dtype = compute_dtype(precision, device) if half else torch.float32
    quantized = _four_bits(recipe.model, precision, dtype, device) if precision in FOUR_BITS else {}
    # A sequence with pictures is not packed: its positions have three dimensions.
    attention = "sdpa" if recipe.model.vision.is_joint else resolve_attention(recipe.model.attention, device)
    return {"attn_implementation": attention, "dtype": dtype, **quantized}


def _in_full(module, arguments, output: dict) -> dict:
    """Pool and normalize in fp32: in bf16 a unit vector's length is off by some 0.2%, and each similarity with it.

    Virtual tokens stand before the text's own and are dropped: they belong to no text, and no mask counts them.
    """
    length = arguments[0]["input_ids"].shape[1]
    found = {**output, "token_embeddings": output["token_embeddings"][:, -length:].float()}
    if layers := output.get("all_layer_embeddings"):
        found["all_layer_embeddings"] = [states[:, -length:] for states in layers]
    return found


def _four_bits(model: Model, precision: str, dtype: torch.dtype, device: str) -> dict:
    """Keyword arguments with which transformers quantizes the weights while loading them (QLoRA: arXiv:2305.14314)."""
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=precision,
        bnb_4bit_use_double_quant=model.double_quant,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def dropout(rate: float | None) -> dict[str, float]:
    """Config keys of BERT's and of the decoders' dropout rates; a config ignores those that it does not have."""
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout")
    return {} if rate is None else dict.fromkeys(names, rate)


def _prepare_tokenizer(embedder: SentenceTransformer, model: Model) -> None:
    """Set what the recipe states and assert what it expects: wrong special tokens give silently worse vectors."""
    tokenizer = embedder.tokenizer
    tokenizer.padding_side = model.padding_side
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    for attempt in ("as it comes", "told so"):
        ids = tokenizer("a text")["input_ids"]
        found = {"bos": ids[0] == tokenizer.bos_token_id, "eos": ids[-1] == tokenizer.eos_token_id}
        expected = {name: value for name in found if (value := getattr(model, name)) is not None}
        wrong = [name for name, value in expected.items() if value != found[name]]
        # transformers 5 forgets what tokenizer_config.json says of BOS and EOS, and setting one alone drops the other.
        if wrong and attempt == "as it comes" and len(expected) == 2:
            tokenizer.add_bos_token, tokenizer.add_eos_token = model.bos, model.eos
        elif wrong:
            name = wrong[0]
            raise UserError(
                f"model {model.name_or_path}: the recipe says {name}: {str(expected[name]).lower()}, "
                f"but its tokenizer {'adds' if found[name] else 'does not add'} one"
            )


def _freeze_pooler(embedder: SentenceTransformer) -> None:
    """BERT's pooler feeds no embedding here: without gradients, it would stall DistributedDataParallel."""
    for name, parameter in embedder.named_parameters():
        if ".pooler." in name:
            parameter.requires_grad_(False)


def weights_digest(path: str, revision: str | None = None) -> str:
    """One SHA-256 over all weight files of a folder or hub snapshot, and their names."""
    folder = Path(path)
    if not folder.is_dir():
        folder = _snapshot(path, revision)
    sides = [folder / kind for kind in towers.KINDS]
    if all(side.is_dir() for side in sides):
        return artefact.sha256_json([weights_digest(str(side)) for side in sides])
    files = sorted(file for pattern in ("*.safetensors", "*.bin") for file in folder.glob(pattern))
    if not files:
        raise UserError(f"{folder}: holds no weights (*.safetensors or *.bin)")
    return artefact.sha256_json({file.name: artefact.sha256_file(file) for file in files})


def _snapshot(name: str, revision: str | None) -> Path:
    """A hub model's files, fetched where they are not there yet."""
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=["*.safetensors", "*.json", "*.txt", "*.model"])
        )
    except Exception as error:  # the hub's own errors, the network's and ValueError for a bad name
        raise UserError(f"model {name}: not a folder, and not to be had from the hub ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _random_model(kind: str) -> Path:
    """Build (once, in the user's cache) a tiny model of random weights with a tokenizer of generated text."""
    if kind not in ("mistral", "qwen2", "qwen3_vl", "bert"):
        raise UserError(f"model random:{kind}: known are random:mistral, random:qwen2, random:qwen3_vl, random:bert")
    cache = Path(os.environ.get("ROUNDS_CACHE", Path.home() / ".cache" / "rounds"))
    folder = cache / f"random-{kind}"
    if artefact.is_finished(folder, {"kind": kind, "version": 1}):
        return folder
    with artefact.writing(folder, {"config": {"kind": kind, "version": 1}}) as temporary:
        tokenizer = _random_tokenizer(with_bos=not kind.startswith("qwen"))
        if kind == "qwen3_vl":
            tokenizer.add_special_tokens({"additional_special_tokens": [joint.START, joint.PAD, joint.END]})
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

    from rounds.data import sample

    with tempfile.TemporaryDirectory() as folder:
        sample.generate(Path(folder), questions=100, test_questions=10, seed=0)
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
