"""Read YAML in which nothing is silently another thing than it looks.

YAML forbids a key that stands twice, and PyYAML keeps the last one; by YAML 1.1, `010` is 8 and `1:30` is 90.
"""

import re

import yaml

from rounds.errors import UserError

# Octal by a leading zero, and sexagesimal.
_MISLEADING_NUMBER = re.compile(r"[-+]?0_*[0-9][0-9_]*|[-+]?[0-9][0-9_]*(:[0-9_.]+)+")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses a mapping that names a key twice, misleading numbers and lone surrogates."""

    source = ""

    def construct_scalar(self, node: yaml.ScalarNode) -> str:
        value = super().construct_scalar(node)
        place = f"{self.source} line {node.start_mark.line + 1}"
        if node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float") and _MISLEADING_NUMBER.fullmatch(value):
            raise UserError(f"{place}: YAML reads {value} in another base; write it as a decimal number or in quotes")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise UserError(
                f"{place}: holds half of a surrogate pair (\\ud800 to \\udfff alone); write the character whole"
            )
        return value

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise UserError(
                    f"{self.source} line {line}: key {key.value!r} stands in line {lines[key.value]} too; keep one"
                )
            lines[key.value] = line
        super().flatten_mapping(node)  # puts the keys of `<<: *anchor` beside the mapping's own


def load(text: str, source: str) -> object:
    """Return what a YAML document holds.

    >>> load("a: 1\\nb: {c: 2}", "mine.yaml")
    {'a': 1, 'b': {'c': 2}}

    Args:
        text: the document.
        source: the file that it comes from, for messages.

    Raises:
        UserError: a mapping names a key twice, a number is written in base 8 or 60, or a text cannot be encoded.
        yaml.YAMLError: the text is no YAML.
    """
    loader = _Loader(text)
    loader.source = source
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
