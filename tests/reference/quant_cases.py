#!/usr/bin/env python3
"""Makes tests/data/quant (one matrix in every way of storing, and its values) and the packed checkpoints of tests/data/lm.

    python quant_cases.py TESTS_DATA [NAME …]     # needs torch, transformers, compressed-tensors, nvidia-modelopt

Values are those of the writers' own code where they can be had (compressed-tensors, modelopt), in f32; GPTQ and AWQ
follow the layouts that their kernels read, written here once more.
"""
import json
import sys
from pathlib import Path

import torch
import transformers
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import dequantize
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from modelopt.torch.quantization.qtensor.nvfp4_tensor import NVFP4QTensor
from safetensors.torch import save_file

from lm_cases import COMMON, GREEDY, ROPE

NIBBLES = torch.arange(8, dtype=torch.int64) * 4
INTERLEAVED = [0, 2, 4, 6, 1, 3, 5, 7]   # nibble i of an AWQ word holds column INTERLEAVED[i]


def words(values, order=range(8)):
    """Nibbles [..., 8 n] → i32 [..., n]; nibble i of a word is value order[i]."""
    eight = values.to(torch.int64).reshape(*values.shape[:-1], -1, 8)[..., list(order)]
    packed = (eight << NIBBLES).sum(-1)
    return torch.where(packed >= 2**31, packed - 2**32, packed).to(torch.int32)


def group_quantise(weight, group, index=None, symmetric=False):
    """Codes and zeros 0 … 15 and f16 scales, weight [n, k] → codes [n, k], scales and zeros [groups, n]."""
    n, k = weight.shape
    index = torch.arange(k) // group if index is None else index
    count = int(index.max()) + 1
    scales, zeros, codes = torch.zeros(count, n), torch.zeros(count, n, dtype=torch.int64), torch.zeros(n, k, dtype=torch.int64)
    for g in range(count):
        part = weight[:, index == g]
        low, high = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
        if symmetric:
            high = torch.maximum(high, -low)
            low = -high
        scale = ((high - low) / 15).half().float()
        scales[g] = scale
        zeros[g] = torch.full((n,), 8) if symmetric else (-low / scale).round().clamp(0, 15).to(torch.int64)
        codes[:, index == g] = ((part / scale[:, None]).round() + zeros[g][:, None]).clamp(0, 15).to(torch.int64)
    values = (codes - zeros[index].T).float() * scales[index].T
    return codes, scales.half(), zeros, values


def gptq(weight, group=32, v2=False, shuffled=False, symmetric=False):
    n, k = weight.shape
    index = torch.arange(k) // group
    if shuffled:
        index = index[torch.randperm(k)]
    codes, scales, zeros, values = group_quantise(weight, group, index, symmetric)
    stored = zeros if v2 else (zeros - 1) & 15
    return {"qweight": words(codes).T.contiguous(), "scales": scales, "qzeros": words(stored),
            "g_idx": index.to(torch.int32)}, values


def awq(weight, group=32):
    codes, scales, zeros, values = group_quantise(weight, group)
    return {"qweight": words(codes.T, INTERLEAVED), "scales": scales, "qzeros": words(zeros, INTERLEAVED)}, values


def compressed(weight, kind, **arguments):
    """Through compressed-tensors: its scales, its codes, its values."""
    args = QuantizationArgs(**arguments)
    activations = QuantizationArgs(num_bits=8, type=args.type, dynamic=True, strategy="token") if kind.endswith("-quantized") and \
        kind != "pack-quantized" and args.num_bits == 8 else None
    scheme = QuantizationScheme(targets=["Linear"], weights=args, input_activations=activations)
    n, k = weight.shape
    state, extra = {"weight": weight.clone()}, None
    if args.group_size and args.group_size > 0:
        blocks = weight.reshape(n, -1, args.group_size)
        low, high = blocks.amin(-1), blocks.amax(-1)
    elif args.strategy == "channel":
        low, high = weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
    else:
        low, high = weight.amin().reshape(1), weight.amax().reshape(1)
    if kind == "nvfp4-pack-quantized":
        extra = generate_gparam(weight.amin(), weight.amax())
        state["weight_global_scale"] = extra
        args.scale_dtype = torch.float8_e4m3fn
    scale, zero = calculate_qparams(low, high, args, global_scale=extra)
    if kind == "pack-quantized":
        scale = scale.bfloat16().float()
    state["weight_scale"] = scale.float() if kind == "nvfp4-pack-quantized" else scale
    if not args.symmetric:
        state["weight_zero_point"] = zero
    code = BaseCompressor.get_value_from_registry(kind)
    stored = code.compress(state, scheme)
    values = code.decompress(dict(stored), scheme)["weight"].float()
    if kind == "nvfp4-pack-quantized":   # decompress rounds its result to bf16: the same formula without that
        exact = dequantize(unpack_fp4_from_uint8(stored["weight_packed"], n, k).float(), stored["weight_scale"].float(),
                           args=args, global_scale=extra, dtype=torch.float32)
        assert torch.equal(exact.bfloat16().float(), values)
        values = exact
    stored = {key: value.contiguous() for key, value in stored.items()}
    if kind == "pack-quantized":
        stored["weight_scale"] = stored["weight_scale"].bfloat16()
    return stored, values


def ct_fp8(weight):
    return compressed(weight, "float-quantized", num_bits=8, type="float", strategy="channel", symmetric=True)


def ct_fp8_tensor(weight):
    return compressed(weight, "float-quantized", num_bits=8, type="float", strategy="tensor", symmetric=True)


def ct_int8(weight):
    return compressed(weight, "int-quantized", num_bits=8, type="int", strategy="channel", symmetric=True)


def ct_int8_words(weight):
    return compressed(weight, "pack-quantized", num_bits=8, type="int", strategy="channel", symmetric=True)


def ct_int4(weight, group=32, symmetric=True):
    return compressed(weight, "pack-quantized", num_bits=4, type="int", strategy="group", group_size=group,
                      symmetric=symmetric)


def ct_nvfp4(weight):
    return compressed(weight, "nvfp4-pack-quantized", num_bits=4, type="float", strategy="tensor_group", group_size=16,
                      symmetric=True)


def modelopt_nvfp4(weight):
    codes, scale, scale_2 = NVFP4QTensor.quantize(weight.clone(), 16)
    values = codes.dequantize(torch.float32, scale=scale, double_scale=scale_2, block_sizes={-1: 16})
    return {"weight": codes._quantized_data, "weight_scale": scale, "weight_scale_2": scale_2.float(),
            "input_scale": torch.tensor(0.01)}, values.reshape(weight.shape)


def modelopt_fp8(weight):
    scale = weight.abs().max() / 448
    codes = (weight / scale).to(torch.float8_e4m3fn)
    return {"weight": codes, "weight_scale": scale, "input_scale": torch.tensor(0.01)}, codes.float() * scale


def fp8_blocks(weight):
    n, k = weight.shape
    rows, cols = (n + 127) // 128, (k + 127) // 128
    scale = torch.zeros(rows, cols)
    values, codes = torch.zeros_like(weight), torch.zeros(n, k, dtype=torch.float8_e4m3fn)
    for i in range(rows):
        for j in range(cols):
            where = (slice(128 * i, 128 * i + 128), slice(128 * j, 128 * j + 128))
            scale[i, j] = weight[where].abs().max() / 448
            codes[where] = (weight[where] / scale[i, j]).to(torch.float8_e4m3fn)
            values[where] = codes[where].float() * scale[i, j]
    return {"weight": codes, "weight_scale_inv": scale}, values


def ct_config(kind, **weights):
    return {"quant_method": "compressed-tensors", "format": kind, "quantization_status": "compressed", "ignore": ["lm_head"],
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}


# name → (quantiser, configuration, shape of the matrix of tests/data/quant)
WAYS = {
    "gptq": (gptq, {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": False}, (24, 72)),
    "gptq_symmetric": (lambda w: gptq(w, 32, symmetric=True), {"quant_method": "gptq", "bits": 4, "group_size": 32}, (24, 72)),
    "gptq_v2": (lambda w: gptq(w, v2=True), {"quant_method": "gptq", "bits": 4, "group_size": 32,
                                           "checkpoint_format": "gptq_v2"}, (24, 72)),
    "gptq_shuffled": (lambda w: gptq(w, shuffled=True), {"quant_method": "gptq", "bits": 4, "group_size": 32,
                                                       "desc_act": True}, (24, 64)),
    "gptq_whole": (lambda w: gptq(w, group=w.shape[1]), {"quant_method": "gptq", "bits": 4, "group_size": -1}, (8, 40)),
    "awq": (awq, {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True}, (24, 72)),
    "ct_fp8": (ct_fp8, ct_config("float-quantized", num_bits=8, type="float", strategy="channel"), (9, 21)),
    "ct_fp8_tensor": (ct_fp8_tensor, ct_config("float-quantized", num_bits=8, type="float", strategy="tensor"), (9, 21)),
    "ct_int8": (ct_int8, ct_config("int-quantized", num_bits=8, type="int", strategy="channel"), (9, 21)),
    "ct_int8_words": (ct_int8_words, ct_config("pack-quantized", num_bits=8, type="int", strategy="channel"), (9, 22)),
    "ct_int4": (ct_int4, ct_config("pack-quantized", num_bits=4, type="int", strategy="group", group_size=32), (10, 96)),
    "ct_int4_zeros": (lambda w: ct_int4(w, symmetric=False),
                      ct_config("pack-quantized", num_bits=4, type="int", strategy="group", group_size=32, symmetric=False), (16, 64)),
    "ct_nvfp4": (ct_nvfp4, ct_config("nvfp4-pack-quantized", num_bits=4, type="float", strategy="tensor_group", group_size=16),
                 (10, 48)),
    "modelopt_nvfp4": (modelopt_nvfp4, {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}, (10, 48)),
    "modelopt_fp8": (modelopt_fp8, {"quant_method": "modelopt", "quant_algo": "FP8"}, (10, 48)),
    "fp8_blocks": (fp8_blocks, {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}, (131, 140)),
}

SMALL = {**COMMON, "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4,
         "num_key_value_heads": 2, "tie_word_embeddings": False, "rope_parameters": dict(rope_type="default", **ROPE)}
# checkpoint → (family, changes, way)
CHECKPOINTS = {
    "packed_gptq": ("llama", {}, "gptq_shuffled"),
    "packed_awq": ("mistral", dict(sliding_window=None), "awq"),
    "packed_fp8": ("llama", {}, "ct_fp8"),
    "packed_int4": ("qwen2", {}, "ct_int4_zeros"),
    "packed_nvfp4": ("qwen3", dict(head_dim=16), "ct_nvfp4"),
    "packed_modelopt": ("llama", {}, "modelopt_nvfp4"),
    "packed_experts": ("qwen3_moe", dict(num_experts=5, num_experts_per_tok=2, moe_intermediate_size=16, head_dim=16,
                                         decoder_sparse_step=1, mlp_only_layers=[]), "ct_nvfp4"),
}


def make_matrices(path):
    tensors, configs = {}, {}
    for number, (name, (quantise, config, shape)) in enumerate(WAYS.items()):
        torch.manual_seed(number)
        weight = torch.randn(shape) * torch.rand(shape[0], 1)
        weight[0, :3] = torch.tensor([0.0, -0.0, 1e-6])
        stored, values = quantise(weight)
        tensors.update({f"{name}.{key}": value.contiguous() for key, value in stored.items()})
        tensors[f"{name}.values"] = values.contiguous()
        configs[name] = json.dumps(config)
        print(f"{name}: {[(k, list(v.shape), str(v.dtype)[6:]) for k, v in stored.items()]}, "
              f"error {((values - weight).norm() / weight.norm()).item():.4f}")
    # What the encoders must produce, bit for bit, from the same numbers.
    torch.manual_seed(100)
    weight = (torch.randn(12, 128) * torch.rand(12, 1)).bfloat16().float()
    tensors["encode.weight"] = weight
    for name, (stored, values) in {"fp8": ct_fp8(weight), "int4": ct_int4(weight, 128), "nvfp4": ct_nvfp4(weight)}.items():
        tensors[f"encode.{name}"] = values
    path.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path / "matrices.safetensors", metadata=configs)


def linears(model, family):
    """(published name, view of the parameter) of every matrix of the layers but the routers."""
    for key, value in model.named_parameters():
        if not key.startswith("model.layers.") or value.dim() < 2 or key.endswith("mlp.gate.weight"):
            continue
        if value.dim() == 2:
            yield key[:-len(".weight")], value
            continue
        stem = key.rsplit(".", 1)[0]
        for expert, both in enumerate(value):
            names = ("gate_proj", "up_proj") if key.endswith("gate_up_proj") else ("down_proj",)
            for name, part in zip(names, both.chunk(len(names))):
                yield f"{stem}.{expert}.{name}", part


def make_checkpoint(directory, name, seed):
    family, changes, way = CHECKPOINTS[name]
    quantise, quant_config, _ = WAYS[way]
    config = transformers.AutoConfig.for_model(family, **{**SMALL, **changes})
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, experts_implementation="eager").eval()
    packed = {}
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "norm" in key:
                value.add_(torch.randn_like(value) * 0.2)
            else:
                value.copy_(torch.randn_like(value) * (0.3 if value.dim() > 1 else 0.2))
        for key, value in linears(model, family):
            stored, values = quantise(value.detach().clone())
            value.copy_(values)
            packed.update({f"{key}.{part}": tensor.contiguous() for part, tensor in stored.items()})
        tokens = 9
        ids = torch.randint(3, config.vocab_size, (1, tokens))
        logits, sequence = model(ids).logits[0], ids
        for _ in range(GREEDY):
            row = model(sequence).logits[0, -1]
            best = row.topk(2).values
            assert best[0] - best[1] > 1e-3, f"{name}: a tie, take another seed"
            sequence = torch.cat([sequence, row.argmax().view(1, 1)], dim=1)
    path = directory / name
    path.mkdir(parents=True, exist_ok=True)
    document = {k: v for k, v in config.to_dict().items() if not k.startswith("_")}
    document["architectures"] = [type(model).__name__]
    document["quantization_config"] = quant_config
    (path / "config.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    quantised = {key for key, _ in linears(model, family)}
    for key, value in model.state_dict().items():
        if value.dim() == 3 or key.removesuffix(".weight") in quantised:
            continue
        packed[key] = value.clone().contiguous()
    save_file(packed, path / "model.safetensors", metadata={"format": "pt"})
    save_file({"in.token_ids": ids[0].to(torch.int32), "out.logits": logits.contiguous(),
               "out.greedy": sequence[0, tokens:].to(torch.int32)}, path / "case.safetensors",
              metadata={"format": "flashrt-case-1", "kind": "lm", "source": f"transformers {transformers.__version__}"})
    print(f"{name}: {len(packed)} tensors, {sequence[0, tokens:].tolist()}")


if __name__ == "__main__":
    data = Path(sys.argv[1])
    if not sys.argv[2:] or "matrices" in sys.argv[2:]:
        make_matrices(data / "quant")
    for number, checkpoint in enumerate(CHECKPOINTS):
        if sys.argv[2:] and checkpoint not in sys.argv[2:]:
            continue
        for attempt in range(20):
            try:
                make_checkpoint(data / "lm", checkpoint, 100 * attempt + number)
                break
            except AssertionError as tie:
                print(tie)
        else:
            sys.exit(f"{checkpoint}: no seed without a tie")
