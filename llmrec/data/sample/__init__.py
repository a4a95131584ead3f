"""The bundled sample: 800 customers, 500 products and 19,556 purchases of a real shop (CC0)."""

from pathlib import Path


def sample_yaml() -> Path:
    """Path of the sample's `data.yaml`, beside its tables."""
    return Path(__file__).parent / "data.yaml"
