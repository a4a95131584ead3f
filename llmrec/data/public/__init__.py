"""Descriptions of public datasets: each file says where its owner offers it and on what terms."""

from pathlib import Path

from llmrec.errors import DataError


def names() -> tuple[str, ...]:
    """Names of the described datasets, sorted."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.yaml")))


def public_yaml(name: str) -> Path:
    """Path of the description of a public dataset; raises `DataError` for an unknown name."""
    path = Path(__file__).parent / f"{name}.yaml"
    if name not in names():
        raise DataError(f"no description of a dataset {name!r}; there are {', '.join(names())}")
    return path
