#!/usr/bin/env python3
"""Makes tests/data/lm: tiny random checkpoints of every family, and what transformers computes with them.

    python lm_cases.py DIRECTORY        # needs torch and transformers
"""
import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

COMMON = dict(num_hidden_layers=3, hidden_size=24, intermediate_size=40, num_attention_heads=6, num_key_value_heads=2,
              vocab_size=61, max_position_embeddings=64, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2,
              pad_token_id=0, attn_implementation="eager")
ROPE = dict(rope_theta=1e4)
# name → (family, configuration, prompt tokens)
CASES = {
    "llama_odd_heads": ("llama", dict(num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=False,
                                      rope_parameters=dict(rope_type="default", **ROPE)), 11),
    "llama_tied_biased": ("llama", dict(hidden_size=30, num_attention_heads=5, num_key_value_heads=5, head_dim=8, attention_bias=True,
                                        mlp_bias=True, tie_word_embeddings=True,
                                        rope_parameters=dict(rope_type="default", **ROPE)), 7),
    "llama_scaled": ("llama", dict(tie_word_embeddings=True, head_dim=8, rope_parameters=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=16, rope_theta=100.0)), 21),
    "llama_linear": ("llama", dict(tie_word_embeddings=False,
                                   rope_parameters=dict(rope_type="linear", factor=4.0, **ROPE)), 9),
    "mistral_window": ("mistral", dict(sliding_window=5, head_dim=8, tie_word_embeddings=False,
                                       rope_parameters=dict(rope_type="default", **ROPE)), 19),
    "mistral_whole": ("mistral", dict(sliding_window=None, head_dim=4, tie_word_embeddings=False,
                                      rope_parameters=dict(rope_type="default", **ROPE)), 8),
    "qwen2_biased": ("qwen2", dict(num_attention_heads=3, num_key_value_heads=3, tie_word_embeddings=True,
                                   rope_parameters=dict(rope_type="default", rope_theta=1e6)), 10),
    "qwen2_some_windows": ("qwen2", dict(use_sliding_window=True, sliding_window=4, max_window_layers=1,
                                         tie_word_embeddings=False,
                                         rope_parameters=dict(rope_type="default", rope_theta=1e6)), 13),
    "qwen3_yarn": ("qwen3", dict(head_dim=10, tie_word_embeddings=False, rope_parameters=dict(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=16, rope_theta=1e4)), 18),
    "qwen3_tied": ("qwen3", dict(head_dim=6, num_attention_heads=7, num_key_value_heads=1, tie_word_embeddings=True,
                                 rope_parameters=dict(rope_type="default", rope_theta=1e6)), 12),
    "gemma": ("gemma", dict(hidden_size=30, head_dim=12, num_attention_heads=5, num_key_value_heads=1,
                            hidden_act="gelu_pytorch_tanh",
                            rope_parameters=dict(rope_type="default", **ROPE)), 9),
}
GREEDY = 24


def make(directory: Path, name: str, seed: int):
    family, changes, tokens = CASES[name]
    config = transformers.AutoConfig.for_model(family, **{**COMMON, **changes})
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for key, value in model.named_parameters():   # large enough that every part of the block matters
            if "norm" in key:
                value.add_(torch.randn_like(value) * 0.2)
            else:
                value.copy_(torch.randn_like(value) * (0.3 if value.dim() > 1 else 0.2))
    ids = torch.randint(3, config.vocab_size, (1, tokens))
    with torch.no_grad():
        logits = model(ids).logits[0]
        sequence = ids
        for _ in range(GREEDY):   # no cache: every step computes the whole sequence
            row = model(sequence).logits[0, -1]
            best = row.topk(2).values
            assert best[0] - best[1] > 1e-3, f"{name}: a tie, take another seed"
            sequence = torch.cat([sequence, row.argmax().view(1, 1)], dim=1)
    path = directory / name
    path.mkdir(parents=True, exist_ok=True)
    document = {k: v for k, v in config.to_dict().items() if not k.startswith("_")}
    document["architectures"] = [type(model).__name__]
    (path / "config.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    tied = model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    weights = {k: v.clone().contiguous() for k, v in model.state_dict().items()
               if not (tied and k == "lm_head.weight")}
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    save_file({"in.token_ids": ids[0].to(torch.int32), "out.logits": logits.contiguous(),
               "out.greedy": sequence[0, tokens:].to(torch.int32)}, path / "case.safetensors",
              metadata={"format": "flashrt-case-1", "kind": "lm", "source": f"transformers {transformers.__version__}"})
    print(f"{name}: {sum(v.numel() for v in weights.values())} weights, {sequence[0, tokens:].tolist()}")


if __name__ == "__main__":
    for number, case in enumerate(CASES):
        for attempt in range(20):
            try:
                make(Path(sys.argv[1]), case, 100 * attempt + number)
                break
            except AssertionError as tie:
                print(tie)
        else:
            sys.exit(f"{case}: no seed without a tie")
