"""Read YAML in which no key stands twice: YAML forbids it, and PyYAML silently keeps the last one."""

import yaml

from rounds.errors import UserError


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses a mapping that names a key twice."""

    source = ""

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
        UserError: a mapping names a key twice.
        yaml.YAMLError: the text is no YAML.
    """
    loader = _Loader(text)
    loader.source = source
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
