"""Registry: the targets by name, as the modules that define them add them."""

from collections.abc import Callable

from rounds.pipeline.session import Session

Action = Callable[[Session], None]
TARGETS: dict[str, Action] = {}
VALIDATED: set[str] = set()  # targets that need validation queries


def target(is_validated: bool = False) -> Callable[[Action], Action]:
    """Register a function as the target of its name; `is_validated`: it needs validation queries."""

    def register(action: Action) -> Action:
        name = action.__name__.rstrip("_")
        TARGETS[name] = action
        if is_validated:
            VALIDATED.add(name)
        return action

    return register
