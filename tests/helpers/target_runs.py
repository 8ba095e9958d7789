"""Targets run with a recording session: the scripts and calls that they make."""

from rounds.pipeline import targets


def ran(make_session, target: str, *arguments: str) -> list[str]:
    """Run a target, and return the names of its scripts in order."""
    session = make_session(*arguments, target=target)
    targets.run(target, session)
    return session.runner.scripts


def last_call(make_session, target: str, *arguments: str):
    """Run a target, and return its last call."""
    session = make_session(*arguments, target=target)
    targets.run(target, session)
    return session.runner.calls[-1]
