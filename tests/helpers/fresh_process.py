"""Embed texts in a fresh process, where nothing is left over from training."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

PROGRAM = """
import sys, numpy as np
from rounds.encoding.encoder import encode
from rounds.models import checkpoint
source = checkpoint.resolve(sys.argv[1], device="cpu")
vectors = encode(source.load(), sys.argv[3:], source.recipe.prompts, "query", source.precision)
np.save(sys.argv[2], vectors)
"""


def embed_in_fresh_process(checkpoint_folder: Path, texts: Sequence[str]) -> np.ndarray:
    """Load a checkpoint in a fresh process and embed texts as queries: (texts, dim) float32."""
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "vectors.npy"
        command = [sys.executable, "-c", PROGRAM, str(checkpoint_folder), str(output), *texts]
        subprocess.run(command, check=True, capture_output=True)
        return np.load(output)
