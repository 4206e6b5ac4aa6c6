#!/usr/bin/env python3
"""Makes tests/data/lm: tiny random checkpoints of every family, and what transformers computes with them.

    python lm_cases.py DIRECTORY [CASE …]        # needs torch and transformers
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
    "mixtral": ("mixtral", dict(num_local_experts=6, num_experts_per_tok=2, sliding_window=None, intermediate_size=14,
                                tie_word_embeddings=False, rope_parameters=dict(rope_type="default", **ROPE)), 9),
    "qwen3_experts": ("qwen3_moe", dict(num_experts=12, num_experts_per_tok=3, moe_intermediate_size=7, head_dim=6,
                                        norm_topk_prob=False, decoder_sparse_step=1, mlp_only_layers=[],
                                        tie_word_embeddings=False,
                                        rope_parameters=dict(rope_type="default", rope_theta=1e6)), 10),
}
GPT2 = dict(n_layer=3, n_positions=140, vocab_size=61, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=1,
            eos_token_id=2, attn_implementation="eager")
CASES |= {
    "gpt2_odd_heads": ("gpt2", dict(n_embd=21, n_head=3), 11),
    "gpt2_untied": ("gpt2", dict(n_embd=30, n_head=5, n_inner=50, layer_norm_epsilon=1e-3, tie_word_embeddings=False), 13),
}
GREEDY = 24


def published(name, family, weights):
    """As checkpoints store them: the experts' matrices one by one, which transformers holds stacked; one GPT-2 in the
    form of the first checkpoints, without a prefix and with the causal masks."""
    mixtral, result = family == "mixtral", {}
    if name == "gpt2_untied":
        masks = {f"h.{i}.attn.bias": torch.ones(140, 140).tril().bool().view(1, 1, 140, 140) for i in range(3)}
        return {key.removeprefix("transformer."): value for key, value in weights.items()} | masks
    names = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
    for key, value in weights.items():
        stem = key.replace(".mlp.", ".block_sparse_moe.") if mixtral else key
        if key.endswith("experts.gate_up_proj"):
            for expert, both in enumerate(value):
                for name, part in zip(names, both.chunk(2)):
                    result[stem.replace("gate_up_proj", f"{expert}.{name}.weight")] = part.clone().contiguous()
        elif key.endswith("experts.down_proj"):
            for expert, part in enumerate(value):
                result[stem.replace("down_proj", f"{expert}.{names[2]}.weight")] = part.clone().contiguous()
        else:
            result[stem] = value
    return result


def make(directory: Path, name: str, seed: int):
    family, changes, tokens = CASES[name]
    config = transformers.AutoConfig.for_model(family, **{**(GPT2 if family == "gpt2" else COMMON), **changes})
    torch.manual_seed(seed)
    eager = {} if family == "gpt2" else dict(experts_implementation="eager")
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, **eager).eval()
    with torch.no_grad():
        for key, value in model.named_parameters():   # large enough that every part of the block matters
            if "norm" in key or "ln_" in key:
                value.add_(torch.randn_like(value) * 0.2)
            else:
                large = 1.0 if "wpe" in key else 0.3   # positions count, else GPT-2 repeats one token
                value.copy_(torch.randn_like(value) * (large if value.dim() > 1 else 0.2))
    ids = torch.randint(3, config.vocab_size, (1, tokens))
    with torch.no_grad():
        logits = model(ids).logits[0]
        sequence = ids
        for _ in range(GREEDY):   # no cache: every step computes the whole sequence
            row = model(sequence).logits[0, -1]
            best = row.topk(2).values
            assert best[0] - best[1] > 1e-3, f"{name}: a tie, take another seed"
            sequence = torch.cat([sequence, row.argmax().view(1, 1)], dim=1)
    assert family != "gpt2" or len(sequence[0, tokens:].unique()) >= 6, f"{name}: one token, take another seed"
    path = directory / name
    path.mkdir(parents=True, exist_ok=True)
    document = {k: v for k, v in config.to_dict().items() if not k.startswith("_")}
    document["architectures"] = [type(model).__name__]
    (path / "config.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    tied = model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    weights = {k: v.clone().contiguous() for k, v in model.state_dict().items()
               if not (tied and k == "lm_head.weight")}
    weights = published(name, family, weights)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    save_file({"in.token_ids": ids[0].to(torch.int32), "out.logits": logits.contiguous(),
               "out.greedy": sequence[0, tokens:].to(torch.int32)}, path / "case.safetensors",
              metadata={"format": "flashrt-case-1", "kind": "lm", "source": f"transformers {transformers.__version__}"})
    print(f"{name}: {sum(v.numel() for v in weights.values())} weights, {sequence[0, tokens:].tolist()}")


if __name__ == "__main__":
    for number, case in enumerate(CASES):
        if sys.argv[2:] and case not in sys.argv[2:]:
            continue
        for attempt in range(20):
            try:
                make(Path(sys.argv[1]), case, 100 * attempt + number)
                break
            except AssertionError as tie:
                print(tie)
        else:
            sys.exit(f"{case}: no seed without a tie")
