"""Results: rows and checks of each section, written as JSON after every figure and as a Markdown table."""

import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rounds.artifacts import store

JSON, TABLE = "gpu_check.json", "gpu_check.md"


class SectionSkipped(Exception):
    """Raised by a section, or a part of one, that cannot run on this machine; the message says why."""


@dataclass
class CheckResults:
    """Collect figures and checks by section, and write both files after every change.

    Attributes:
        folder: Folder of the JSON file and the table.
        machine: Name of the GPU and versions of the libraries.
        sections: Content of each section by name: status, seconds, rows, checks, and the traceback of an error.
    """

    folder: Path
    machine: dict
    sections: dict[str, dict] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.date = datetime.now(UTC).date().isoformat()
        self.folder.mkdir(parents=True, exist_ok=True)

    def start(self, section: str) -> "SectionResults":
        """Add a section and return the object that collects its results."""
        self.sections[section] = {"status": "running", "rows": [], "checks": []}
        self.write()
        return SectionResults(self, self.sections[section])

    def write(self) -> None:
        """Replace both files."""
        content = {"kind": "gpu_check", "date": self.date, "machine": self.machine, "sections": self.sections}
        store.write_json(self.folder / JSON, content)
        store.write_text(self.folder / TABLE, format_table(content))

    @property
    def failed(self) -> bool:
        """Return whether any section ended with an error or has a check that does not hold."""
        return any(content["status"] in ("failed", "error") for content in self.sections.values())


@dataclass
class SectionResults:
    """Collect the rows and checks of one section.

    Attributes:
        results: Results of all sections.
        content: Content of this section, as it is written to the JSON file.
    """

    results: CheckResults
    content: dict

    def note(self, label: str, **figures: object) -> None:
        """Add a row with a label and its figures, whose names include their units."""
        rounded = {name: _round_figure(value) for name, value in figures.items()}
        self.content["rows"].append({"what": label, **rounded})
        self.results.write()

    def check(self, label: str, value: float, holds: bool) -> None:
        """Add a check; one that does not hold fails the section but does not stop it."""
        self.content["checks"].append({"what": label, "value": _round_figure(value), "holds": bool(holds)})
        self.results.write()

    def end(self, status: str, start: float, **details: object) -> str:
        """Close the section and return a line about it.

        Args:
            status: `ok`, which becomes `failed` if a check does not hold, `skipped` or `error`.
            start: `time.perf_counter()` at the start of the section.
            details: Further keys of the section's content, such as the reason.
        """
        failed_checks = [check["what"] for check in self.content["checks"] if not check["holds"]]
        if status == "ok" and failed_checks:
            status = "failed"
        self.content.update(status=status, seconds=round(time.perf_counter() - start, 1), **details)
        self.results.write()
        passed = len(self.content["checks"]) - len(failed_checks)
        parts = [f"{len(self.content['rows'])} rows", f"{passed} checks hold"]
        parts += [f"does not hold: {label}" for label in failed_checks]
        return f"{status}, {self.content['seconds']:.0f} s, {'; '.join(parts)}"


def _round_figure(value: object) -> object:
    """Round a float to six digits; return NaN and infinity, which JSON lacks, as strings."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)


def format_table(content: dict) -> str:
    """Return a Markdown table of the rows, the checks and the sections that did not run, with tracebacks below it.

    Args:
        content: Content of the JSON file.
    """
    machine = content["machine"]
    versions = ", ".join(f"{name} {value}" for name, value in machine.items() if name != "device")
    lines = [f"{machine.get('device', 'unknown')}, {content['date']} ({versions})", ""]
    lines += ["| section | measured | figures |", "|---|---|---|"]
    for name, section in content["sections"].items():
        lines += _section_rows(name, section)
    for name, section in content["sections"].items():
        if trace := section.get("traceback"):
            lines += ["", f"{name}:", "", "```", trace.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def _section_rows(name: str, section: dict) -> list[str]:
    """Return the table rows of one section."""
    lines = []
    for row in section["rows"]:
        figures = [f"{key.replace('_', ' ')} {_format_figure(value)}" for key, value in row.items() if key != "what"]
        lines.append(f"| {name} | {row['what']} | {', '.join(figures)} |")
    for check in section["checks"]:
        verdict = "holds" if check["holds"] else "**does not hold**"
        lines.append(f"| {name} | {check['what']} | {_format_figure(check['value'])}: {verdict} |")
    if section["status"] not in ("ok", "failed"):
        lines.append(f"| {name} | {section['status']} | {' '.join(section.get('reason', '').split())} |")
    return lines


def _format_figure(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(_format_figure, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    # Cosines near 1 need more digits than times.
    return f"{value:.4g}" if abs(value) < 0.99 else f"{value:.6g}"
