"""Upload the bundle, run the notebook on Kaggle, and submit what it wrote."""

from dataclasses import dataclass, field
from pathlib import Path

from rounds import cli
from rounds.flags import project_root
from rounds.kaggle.client import Client, push_submission


@dataclass
class Flags:
    """The folder that holds bundle and notebook."""

    folder: str = field(default=str(project_root() / "submissions"), metadata={"help": "holds bundle/ and notebook/"})
    dry: bool = field(default=False, metadata={"help": "print the commands only"})
    wait: float = field(default=20.0, metadata={"help": "seconds between two looks at Kaggle's progress"})


def main(flags: Flags) -> None:
    """Upload the bundle, run the notebook on Kaggle, and submit what it wrote."""
    folder = Path(flags.folder)
    client = Client(dry=flags.dry, wait=flags.wait)
    push_submission(client, folder / "bundle", folder / "notebook")


if __name__ == "__main__":
    cli.run(main, Flags)
