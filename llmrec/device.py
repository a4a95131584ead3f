"""Where a model runs that nobody has placed: on the GPU where there is one."""


def device_of(name: str = "auto") -> str:
    """`name` itself, and for "auto" this machine's GPU, or the CPU where it has none."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
