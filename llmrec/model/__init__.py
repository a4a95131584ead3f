"""Pretrained backbone, item tokens, adapters and query head."""
