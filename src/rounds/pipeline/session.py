"""Session: one call of make, with its settings and its runner."""

from dataclasses import dataclass

from rounds.pipeline import keys
from rounds.pipeline.experiment import Experiment
from rounds.pipeline.runner import Runner, up_to_date
from rounds.pipeline.settings import Settings
from rounds.pipeline.stages import Stage


@dataclass
class Session:
    """One call of make: its settings and its runner."""

    settings: Settings
    runner: Runner

    @property
    def experiment(self) -> Experiment:
        """The names of what the settings describe."""
        return Experiment(self.settings)

    def on(self, **changes: object) -> "Session":
        """The same session with other settings."""
        return Session(self.settings.on(**changes), self.runner)

    def ensure(self, *targets: Stage) -> bool:
        """Bring stages up to date; returns whether anything had to run."""
        return self.runner.ensure(targets)

    def finish(self, *targets: Stage) -> None:
        """Bring stages up to date, and say so where nothing had to run."""
        if not self.runner.ensure(targets):
            self.runner.say(up_to_date(target.output for target in targets))

    def call(self, script: str, **flags: object) -> None:
        """Run a script that leaves no stage's artefact."""
        self.runner.call(keys.command(script, **flags))
