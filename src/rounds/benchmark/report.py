"""Report: what a run measured so far, as JSON that is on disk after every figure, and as a Markdown table."""

import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rounds.artifacts import store

JSON, TABLE = "gpu_check.json", "gpu_check.md"


class Skipped(Exception):
    """A section, or a part of one, that this machine cannot run; its text says why."""


@dataclass
class Report:
    """Figures and checks by section; every change is written at once.

    Attributes:
        folder: holds the JSON and the table.
        machine: the card, the libraries' versions.
        sections: section name -> its status, seconds, rows of figures, checks and traceback.
    """

    folder: Path
    machine: dict
    sections: dict[str, dict] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.date = datetime.now(UTC).date().isoformat()
        self.folder.mkdir(parents=True, exist_ok=True)

    def start(self, section: str) -> "Section":
        """A section's own part of the report."""
        self.sections[section] = {"status": "running", "rows": [], "checks": []}
        self.write()
        return Section(self, self.sections[section])

    def write(self) -> None:
        """Replace both files."""
        content = {"kind": "gpu_check", "date": self.date, "machine": self.machine, "sections": self.sections}
        store.write_json(self.folder / JSON, content)
        store.write_text(self.folder / TABLE, table(content))

    @property
    def failed(self) -> bool:
        """Whether an error or a check that does not hold stands in any section."""
        return any(each["status"] in ("failed", "error") for each in self.sections.values())


@dataclass
class Section:
    """Where a section's measurements go."""

    report: Report
    content: dict

    def note(self, what: str, **figures: object) -> None:
        """Add a row: what was measured, and its figures with their units in their names."""
        self.content["rows"].append({"what": what, **{name: _rounded(value) for name, value in figures.items()}})
        self.report.write()

    def check(self, what: str, value: float, holds: bool) -> None:
        """Add a condition; one that does not hold fails the section, which goes on."""
        self.content["checks"].append({"what": what, "value": _rounded(value), "holds": bool(holds)})
        self.report.write()

    def end(self, status: str, start: float, **more: object) -> str:
        """Close the section; returns its line."""
        broken = [each["what"] for each in self.content["checks"] if not each["holds"]]
        if status == "ok" and broken:
            status = "failed"
        self.content.update(status=status, seconds=round(time.perf_counter() - start, 1), **more)
        self.report.write()
        parts = [f"{len(self.content['rows'])} rows", f"{len(self.content['checks']) - len(broken)} checks hold"]
        parts += [f"does not hold: {what}" for what in broken]
        return f"{status}, {self.content['seconds']:.0f} s, {'; '.join(parts)}"


def _rounded(value: object) -> object:
    """Six digits of a number; what JSON has no number for becomes a word."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)


def table(content: dict) -> str:
    """Markdown: a row for each measurement, check and section that did not run; tracebacks stand below."""
    machine = content["machine"]
    others = ", ".join(f"{name} {value}" for name, value in machine.items() if name != "device")
    lines = [f"{machine.get('device', 'unknown')}, {content['date']} ({others})", ""]
    lines += ["| section | measured | figures |", "|---|---|---|"]
    for name, section in content["sections"].items():
        for row in section["rows"]:
            figures = [f"{_words(key)} {_shown(value)}" for key, value in row.items() if key != "what"]
            lines.append(f"| {name} | {row['what']} | {', '.join(figures)} |")
        for check in section["checks"]:
            verdict = "holds" if check["holds"] else "**does not hold**"
            lines.append(f"| {name} | {check['what']} | {_shown(check['value'])}: {verdict} |")
        if section["status"] not in ("ok", "failed"):
            lines.append(f"| {name} | {section['status']} | {' '.join(section.get('reason', '').split())} |")
    for name, section in content["sections"].items():
        if trace := section.get("traceback"):
            lines += ["", f"{name}:", "", "```", trace.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def _words(key: str) -> str:
    return key.replace("_", " ")


def _shown(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(_shown, value))
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) < 0.99 else f"{value:.6g}"
