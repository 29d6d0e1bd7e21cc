"""Small GGUFs written in a moment, with a byte-level vocabulary: token i is byte i.

Their weights are random, or they follow a script: then the model answers any prompt with a text
that is known beforehand, through the whole engine.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

BYTES = 256
END = 256  # the end token, after the bytes
N_VOCAB = 257
N_EMBD = 288  # room for one direction a token, and a multiple of 32
N_LAYERS = 2
N_HEADS = 4
NOPE, ROPE, LORA = 32, 32, 96
LATENT_ROW = LORA + ROPE  # values a token and layer in the latent cache
EXPANDED_ROW = N_HEADS * (NOPE + ROPE + NOPE)


def _byte_tokens() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, in the order of the bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    extra = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(extra)) for b in range(BYTES)]


def write(
    path: Path,
    *,
    arch: str = "plm",
    script: bytes | None = None,
    endless: bool = True,
    n_ctx: int = 2048,
    chat_template: str | None = None,
) -> Path:
    """Write a model to `path` and return it.

    Args:
        arch: plm, or llama.
        script: what the model answers, greedily, to any prompt; no byte may occur twice.
            Without it the weights are random.
        endless: begin again after the script's last byte; else end there.
        n_ctx: context that it claims to be trained for.
    """
    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, arch)
    head = NOPE + ROPE
    n_ff = N_EMBD
    writer.add_name("test-model")
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(N_EMBD)
    writer.add_block_count(N_LAYERS)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(N_HEADS)
    writer.add_head_count_kv(N_HEADS)
    writer.add_rope_freq_base(100000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_key_length(head)
    writer.add_rope_dimension_count(ROPE if arch == "plm" else head)
    writer.add_value_length(NOPE if arch == "plm" else head)
    if arch == "plm":
        writer.add_kv_lora_rank(LORA)
    writer.add_vocab_size(N_VOCAB)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*_byte_tokens(), "<|end|>"])
    writer.add_token_types([1] * BYTES + [3])
    writer.add_token_merges(["Ġ Ġ"])  # the engine wants one; the token ĠĠ does not exist
    writer.add_eos_token_id(END)
    writer.add_bos_token_id(END)
    writer.add_add_bos_token(False)
    if chat_template is not None:
        writer.add_chat_template(chat_template)

    def add(name: str, *shape: int, scale: float = 0.1) -> None:
        writer.add_tensor(name, rng.normal(0, scale, shape).astype(np.float32))

    def ones(name: str, length: int) -> None:
        writer.add_tensor(name, np.ones(length, np.float32))

    if script is None:
        add("token_embd.weight", N_VOCAB, N_EMBD)
    else:
        writer.add_tensor("token_embd.weight", np.eye(N_VOCAB, N_EMBD, dtype=np.float32))
    ones("output_norm.weight", N_EMBD)
    for layer in range(N_LAYERS):
        block = f"blk.{layer}."
        ones(block + "attn_norm.weight", N_EMBD)
        ones(block + "ffn_norm.weight", N_EMBD)
        add(block + "attn_q.weight", N_HEADS * head, N_EMBD)
        heads_out = N_HEADS * (NOPE if arch == "plm" else head)
        if arch == "plm":
            add(block + "attn_kv_a_mqa.weight", LORA + ROPE, N_EMBD)
            ones(block + "attn_kv_a_norm.weight", LORA)
            add(block + "attn_kv_b.weight", N_HEADS * 2 * NOPE, LORA)
        else:
            add(block + "attn_k.weight", N_HEADS * head, N_EMBD)
            add(block + "attn_v.weight", N_HEADS * head, N_EMBD)
            add(block + "ffn_gate.weight", n_ff, N_EMBD)
        if script is None:
            # Loud layers: a token must not merely repeat itself through the tied embedding.
            add(block + "attn_output.weight", N_EMBD, heads_out, scale=0.5)
            add(block + "ffn_up.weight", n_ff, N_EMBD)
            add(block + "ffn_down.weight", N_EMBD, n_ff, scale=0.5)
        else:
            writer.add_tensor(
                block + "attn_output.weight", np.zeros((N_EMBD, heads_out), np.float32)
            )
            writer.add_tensor(block + "ffn_up.weight", np.eye(n_ff, N_EMBD, dtype=np.float32))
            down = _followers(script, endless) if layer == 0 else np.zeros((N_EMBD, n_ff))
            writer.add_tensor(block + "ffn_down.weight", down.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _followers(script: bytes, endless: bool) -> NDArray[np.float64]:
    """W_down that turns each token's direction into its follower's.

    The embedding is one direction a token and W_up the identity, so relu(x)² keeps the token's
    direction; the follower's then outweighs the token's own in the residual stream.
    """
    assert len(set(script)) == len(script), "a byte with two followers"
    down = np.zeros((N_EMBD, N_EMBD))
    following = dict(zip(script, [*script[1:], script[0] if endless else END], strict=True))
    for token in range(N_VOCAB):
        down[following.get(token, script[0]), token] = 10.0
    return down
