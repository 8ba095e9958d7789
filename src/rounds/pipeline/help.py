"""Help: the variables with their defaults. Only the standard library is needed, so it works before the set-up."""

from rounds.pipeline import settings

WIDTH = 8  # of the column of defaults; a longer default has a line of its own


def lines() -> list[str]:
    """Lines on each variable: name, default, what it is for.

    >>> lines()[0]
    '  SPLIT          v1       v1 v2 v3 v4 v5 v6, or submission (train on everything); TASK=beir: official, dev'
    """
    listed = []
    for variable in settings.variables():
        name, default = variable.name.upper(), settings.default_text(variable)
        if len(default) > WIDTH:
            listed.append(f"  {name:<14} {default}")
            name = default = ""
        listed.append(f"  {name:<14} {default:<{WIDTH}} {variable.metadata['help']}")
    return listed


if __name__ == "__main__":
    print("\n".join(lines()))
