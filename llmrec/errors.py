"""Errors that a user can cause: one clear line each, what and where and what to do."""

import importlib.util
from collections.abc import Iterable


class LlmrecError(Exception):
    """A mistake that the message explains; the command line prints it and exits with `exit_code`."""

    exit_code = 2


class DataError(LlmrecError):
    """The data, its description or a part of it cannot be used."""


class BundleError(LlmrecError):
    """A bundle is missing, incomplete, altered or of another version."""


class UnknownIdError(LlmrecError):
    """An item or a user that the catalogue or the events do not contain."""


class MissingExtraError(LlmrecError):
    """A command needs packages that an optional extra installs."""


_EXTRAS = {
    "train": (
        "accelerate", "bm25s", "datasets", "faiss", "gguf", "implicit", "matplotlib", "peft", "safetensors",
        "scipy", "tensorboard", "torch", "transformers",
    ),
    "serve": ("fastapi", "fastapi_offline", "httpx", "prometheus_client", "psycopg", "redis", "uvicorn"),
    "serve-cpu": ("vllm",),
}  # fmt: skip


def explain_missing(error: ModuleNotFoundError) -> MissingExtraError | None:
    """The error to show for a failed import of a package that an extra installs; None for any other."""
    package = (error.name or "").partition(".")[0]
    for extra, packages in _EXTRAS.items():
        if package in packages:
            return MissingExtraError(
                f"this command needs {package}; install it with: pip install 'llmrec[{extra}]'"
            )
    return None


def require_extra(extra: str, packages: Iterable[str], purpose: str) -> None:
    """Raise `MissingExtraError` when one of `packages` is not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"{purpose} needs {', '.join(missing)}; install it with: pip install 'llmrec[{extra}]'"
        )
