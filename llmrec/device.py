"""Where a model runs that nobody has placed: on the GPU where there is one."""

from llmrec.errors import LlmrecError


def device_of(name: str = "auto") -> str:
    """`name` itself, and for "auto" this machine's GPU, or the CPU where it has none.

    Raises `LlmrecError` for what is no device, and for a GPU that is not there.
    """
    if name == "cpu":
        return name
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if gpus else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise LlmrecError(f"{name!r} is no device: say cpu, cuda or cuda:NUMBER") from error
    if device.type == "cuda" and (device.index or 0) >= gpus:
        has = f"this machine has {gpus} GPU{'s' if gpus > 1 else ''}" if gpus else "torch sees no GPU here"
        raise LlmrecError(
            f"there is no device {name}, {has}: say cpu" + (" or a lower number" if gpus else "")
        )
    return name
