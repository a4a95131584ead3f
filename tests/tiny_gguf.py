"""A tiny Llama as a GGUF file, written as llama.cpp's own converter writes one."""

from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import dequantize, quantize
from tokenizers.pre_tokenizers import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ġ Ġ", "ĠĠ Ġ", "Ġ 5"]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def vocabulary() -> list[str]:
    return [*CONTROL, *sorted(ByteLevel.alphabet()), "ĠĠ", "ĠĠĠ", "Ġ5"]


def write_tiny_gguf(path: Path) -> LlamaForCausalLM:
    """Write the file, matrices as 8-bit blocks; return the model that reading it must give."""
    torch.manual_seed(0)
    tokens = vocabulary()
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config).eval()
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if token in CONTROL else TokenType.NORMAL for token in tokens])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(TEMPLATE)
    with torch.no_grad():
        for name, weight in model.model.named_parameters():
            _add(writer, name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _add(writer: GGUFWriter, name: str, weight: torch.nn.Parameter) -> None:
    """Write one tensor, and put into the model what its quantised form stands for."""
    key = name.removesuffix(".weight")
    if key == "embed_tokens":
        stored = "token_embd"
    elif key == "norm":
        stored = "output_norm"
    else:
        _, layer, part = key.split(".", 2)
        stored = f"blk.{layer}.{NAMES[part]}"
    values = weight.detach().numpy()
    if values.ndim == 1:
        writer.add_tensor(f"{stored}.weight", values.copy())
        return
    kind = GGMLQuantizationType.Q8_0
    blocks = quantize(np.ascontiguousarray(values), kind)
    weight.copy_(torch.from_numpy(dequantize(blocks, kind)))
    heads = {"self_attn.q_proj": 4, "self_attn.k_proj": 2}.get(key.split(".", 2)[-1])
    if heads:  # GGUF interleaves the two halves of each head for its form of rotary positions
        rows = len(blocks)
        blocks = blocks.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2).reshape(rows, -1)
    writer.add_tensor(f"{stored}.weight", np.ascontiguousarray(blocks), raw_dtype=kind)
