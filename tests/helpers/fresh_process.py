"""A program that loads a checkpoint in a fresh process and embeds texts with it."""

FRESH = """
import sys, numpy as np
from rounds.encoding.encoder import encode
from rounds.models import checkpoint
source = checkpoint.resolve(sys.argv[1], device="cpu")
vectors = encode(source.load(), sys.argv[3:], source.recipe.prompts, "query", source.precision)
np.save(sys.argv[2], vectors)
"""
