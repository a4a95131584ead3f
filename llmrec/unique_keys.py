"""YAML where a key given twice is an error, not silently the later one."""

from __future__ import annotations

from typing import Any

import yaml


class UniqueKeys(yaml.SafeLoader):
    """The safe loader, but for keys given twice: those raise a `yaml.YAMLError` with key and place."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are all different."""
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            keys = [str(key.value) for key, _ in node.value]
            twice = next((key for key in keys if keys.count(key) > 1), "")
            raise yaml.constructor.ConstructorError(None, None, f"{twice!r} twice", node.start_mark)
        return mapping


def load_unique(text: str) -> Any:
    """The value that a YAML text says; raises `yaml.YAMLError`, for keys given twice too."""
    return yaml.load(text, Loader=UniqueKeys)
