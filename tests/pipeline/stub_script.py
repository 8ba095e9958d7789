"""Stands in for a stage script: takes its flags, leaves its artefact, and computes nothing."""

import sys
import time
from pathlib import Path

from rounds.artifacts import hashing, store
from rounds.artifacts.manifests import SampleManifest
from rounds.artifacts.second_stage_manifests import CrossValidationManifest
from rounds.data.eedi_schema import FILES
from rounds.evaluation.table import TABLE_FILE, Column, Table, files_of
from rounds.pipeline import keys
from rounds.pipeline.keys import Command

TABLE = Table([Column(""), Column("MAP@25")], [["a row", "0.5"]], "title", "caption")


def leave(command: Command) -> None:
    """Write an artefact as the command's script does: complete, with what it was made from."""
    output = Path(command.value(keys.SCRIPTS[command.script].output))
    manifest = SampleManifest(config={}, made_from=keys.made_from(command))
    if output.suffix:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text("{}\n", encoding="utf-8")
        if command.script in ("cv", "student_table"):
            TABLE.save(output)
            manifest = CrossValidationManifest(config={}, made_from=manifest.made_from, beside=_beside(output))
        manifest = manifest.with_values(sha256=hashing.sha256_file(output))
        store.write_manifest(store.file_manifest(output), manifest)
        return
    with store.writing(output, manifest) as temporary:
        fill(temporary, command.script)


def _beside(table: Path) -> dict[str, str]:
    """Write the other files of a table, and return their digests."""
    files = files_of(table.with_suffix(""), ".md", ".csv")
    for file in files:
        file.touch()
    return {file.name: hashing.sha256_file(file) for file in files}


def fill(folder: Path, script: str) -> None:
    """What make reads of an artefact: a sample's CSVs, an evaluation's table."""
    if script == "eval_llm_embedder":
        TABLE.save(folder / TABLE_FILE)
    if script == "make_sample":
        for name in FILES:
            (folder / name).write_text(name, encoding="utf-8")
    while script == "finetune" and Path("hold").exists():  # a test wants a training that goes on
        Path("held").touch()
        time.sleep(0.02)


if __name__ == "__main__":
    leave(Command(Path(sys.argv[0]).stem, keys.parse(sys.argv[1:])))
