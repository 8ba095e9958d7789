"""Registry: the targets by name, as the modules that define them add them."""

from collections.abc import Callable

from rounds.pipeline.session import Session

Action = Callable[[Session], None]
TARGETS: dict[str, Action] = {}
VALIDATED: set[str] = set()  # targets that need validation queries
DENSE: set[str] = set()  # targets that need one dense vector for each text
TEXT_ONLY: set[str] = set()  # targets whose recipe must not read images


def target(
    is_validated: bool = False, is_dense: bool = False, is_text_only: bool = False
) -> Callable[[Action], Action]:
    """Register a function as the target of its name.

    Args:
        is_validated: whether it needs validation queries.
        is_dense: whether it needs a recipe that makes one dense vector for each text.
        is_text_only: whether it refuses a recipe that reads images.
    """

    def register(action: Action) -> Action:
        name = action.__name__.rstrip("_")
        TARGETS[name] = action
        if is_validated:
            VALIDATED.add(name)
        if is_dense:
            DENSE.add(name)
        if is_text_only:
            TEXT_ONLY.add(name)
        return action

    return register
