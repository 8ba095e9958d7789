"""Decoder scorer: the log-odds of yes against no, with the beginning that pairs share computed once.

The score of a decoder is linear in the last token's state: the difference of two rows of its head. So pairs are
embedded as texts are, by last-token pooling, packed and behind the prefix of their query, and the head's difference is
applied to the vectors. Ten candidates of a query cost little more than one.
"""

import numpy as np
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.cross_encoder.modules import LogitScore
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor, nn

from rounds.config.recipe import Recipe
from rounds.encoding.encoder import EncodingOptions, encode_ids
from rounds.estimate import Estimate
from rounds.models import batch_support
from rounds.models.pooling import MODES

TOKENIZED_PAIRS = 256  # pairs that are tokenized at a time: the library pads them to the longest


class DecoderScorer:
    """Scores pairs as a causal cross-encoder does, but for rounding.

    Attributes:
        model: the cross-encoder.
        embedder: its decoder, whose vector of a pair is the last token's state, (hidden,).
        shares_prefixes: compute what pairs share at their beginning once; the recipe's `prompts.share_prefix`.
    """

    def __init__(self, model: CrossEncoder, recipe: Recipe) -> None:
        decoder = model[0].model.get_decoder()
        pooling = Pooling(decoder.config.hidden_size, MODES["last_token"])
        self.model, self.shares_prefixes = model, recipe.prompts.share_prefix
        self.embedder = SentenceTransformer(
            modules=[_DecoderStates(decoder, model.tokenizer), pooling], device=str(model.device)
        ).eval()
        batch_support.choose_attention(self.embedder, recipe.model.attention, model.device.type)

    @classmethod
    def find(cls, model: CrossEncoder, recipe: Recipe) -> "DecoderScorer | None":
        """Return the scorer of a cross-encoder; None for one that is no decoder or scores in another way."""
        if not isinstance(model[-1], LogitScore) or type(model[0].model.get_output_embeddings()) is not nn.Linear:
            return None
        decoder = model[0].model.get_decoder()
        attention = decoder.config._attn_implementation
        scorer = cls(model, recipe)
        if scorer._agrees():
            return scorer
        decoder.set_attn_implementation(attention)  # the library scores with the model as it was loaded
        return None

    def _agrees(self) -> bool:
        """Return whether the scores of two short texts are the cross-encoder's: some models transform their logits."""
        ids = batch_support.example_texts(self.embedder[0].model, self.model.tokenizer)
        decoder = self.embedder[0].model
        with batch_support.evaluating(self.model), batch_support.in_full_precision(self.model[0].model):
            for text in ids:
                features = {"input_ids": text, "attention_mask": torch.ones_like(text)}
                expected = self.model({**features, "modality": "text"})["scores"].float().flatten()
                vectors = self.embedder(dict(features))["sentence_embedding"]
                if not batch_support.agree(decoder, self.apply_head(vectors), expected):
                    return False
        return True

    def apply_head(self, vectors: Tensor) -> Tensor:
        """Return the scores of vectors.

        Args:
            vectors: (pairs, hidden) float32.

        Returns:
            (pairs,) float32, logits.
        """
        head, tokens = self.model[0].model.get_output_embeddings(), self.model[-1]
        weights = head.weight[tokens.true_token_id].float()
        bias = 0.0 if head.bias is None else head.bias[tokens.true_token_id].float()
        if tokens.false_token_id is not None:
            weights = weights - head.weight[tokens.false_token_id].float()
            bias = bias if head.bias is None else bias - head.bias[tokens.false_token_id].float()
        return vectors.float() @ weights + bias

    def tokenize(self, pairs: list[tuple[str, str]]) -> list[list[int]]:
        """Return the token ids of each pair, template included, as the cross-encoder makes them."""
        ids = []
        for start in range(0, len(pairs), TOKENIZED_PAIRS):
            features = self.model.preprocess(pairs[start : start + TOKENIZED_PAIRS])
            for row, mask in zip(features["input_ids"], features["attention_mask"], strict=True):
                ids.append(row[mask.bool()].tolist())
        return ids

    def score(self, pairs: list[tuple[str, str]], precision: str) -> np.ndarray:
        """Score pairs without gradients.

        Args:
            precision: `fp32`, `bf16`, `fp16`, `nf4` or `fp4`.

        Returns:
            (pairs,) float32, logits.

        Raises:
            UserError: a score is not finite, whatever the precision.
        """
        names = [f"{query[:40]!r} with {passage[:40]!r}" for query, passage in pairs]
        estimate = Estimate(f"score {len(pairs):,} pairs", "tokens", warms_up=self.model.device.type != "cpu")
        options = EncodingOptions(
            title="score pairs", share_prefix=self.shares_prefixes, names=names, on_tokens=estimate.update
        )
        vectors = encode_ids(self.embedder, self.tokenize(pairs), precision, options)
        with torch.inference_mode():
            return self.apply_head(torch.from_numpy(vectors).to(self.model.device)).cpu().numpy()


class _DecoderStates(nn.Module):
    """A language model's decoder in the place of sentence-transformers' Transformer."""

    def __init__(self, decoder: nn.Module, tokenizer) -> None:
        super().__init__()
        self.model, self.tokenizer = decoder, tokenizer

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add `token_embeddings`, (texts, tokens, hidden) float32, to a batch's features."""
        states = self.model(**features, use_cache=False).last_hidden_state
        return {**features, "token_embeddings": states.float()}
