#!/usr/bin/env python3
"""Times cuBLAS, cuDNN and FlashAttention, through torch, at the shapes of `flashrt bench-op` and in the same call:
prints both times and the ratio. Needs torch and a GPU.

  tools/bench_baselines.py [--flashrt build/flashrt] [--match REGEX] [--json FILE] [op ...]

Both sides: one CUDA graph of many calls, weights rotated through more memory than L2 holds, median of graph launches
after a pause. The library computes the bare product or attention; ours includes what the case's name says."""
import argparse
import json
import subprocess
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

# The shapes of the policies: action expert, prefix, vision; attention of all three.
POLICIES = (r"^(10|50|51)x(2560x1024|1024x2048|8192x1024|1024x4096)|^(522|712|968)x|^(512|768)x(3456|1152|4304|2048)x"
            r"|^(10|50|51|522|712|968|256) rows.*of (72|256)")
BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def time_graph(calls, repeats):
    """Median µs of one of `calls`, functions without arguments."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        calls[0]()
        calls[-1]()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    times = []
    for i in range(repeats + 3):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        if i >= 3:
            times.append(begin.elapsed_time(end) * 1e3 / len(calls))
        time.sleep(0.005)  # the card's power budget recovers
    return sorted(times)[len(times) // 2]


def best(candidates):
    """(µs, name) of the fastest candidate that runs; (None, None) when none does."""
    result = (None, None)
    for name, measure in candidates.items():
        try:
            us = measure()
        except (RuntimeError, torch.OutOfMemoryError):
            torch.cuda.synchronize()
            continue
        if result[0] is None or us < result[0]:
            result = (us, name)
    return result


def linear(shape, copies, repeats):
    m, n, k = shape["m"], shape["n"], shape["k"]
    x = torch.randn(m, k, device="cuda", dtype=torch.bfloat16)
    weights = [torch.randn(n, k, device="cuda", dtype=torch.bfloat16) * k**-0.5 for _ in range(copies)]
    out = torch.empty(m, n, device="cuda", dtype=torch.bfloat16)
    calls = [lambda w=w: torch.mm(x, w.t(), out=out) for w in weights]

    def library(name):
        torch.backends.cuda.preferred_blas_library(name)
        return time_graph(calls, repeats)

    return best({"cublas": lambda: library("cublas"), "cublaslt": lambda: library("cublaslt")})


def attention(shape, copies, repeats):
    rows, keys, dim, batch = shape["rows"], shape["keys"], shape["head_dim"], shape["segments"]
    heads, kv_heads = shape["heads"], shape["kv_heads"]
    q = torch.randn(batch, heads, rows, dim, device="cuda", dtype=torch.bfloat16)
    k, v = (torch.randn(batch, kv_heads, keys, dim, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    group = heads // kv_heads
    repeated = [t.repeat_interleave(group, 1).contiguous() for t in (k, v)]

    def sdpa(backend, q, k, v, **options):
        with sdpa_kernel(backend):
            return time_graph([lambda: scaled_dot_product_attention(q, k, v, **options)] * copies, repeats)

    candidates = {}
    for name, backend in BACKENDS.items():
        causal = {"is_causal": shape["causal"]}
        candidates[name] = lambda b=backend: sdpa(b, q, *repeated, **causal)
        candidates[name + " grouped"] = lambda b=backend: sdpa(b, q, k, v, enable_gqa=True, **causal)
        if not shape["causal"] and group > 1:  # the heads of a group as rows of one head: the same result
            packed = q.reshape(batch, kv_heads, group * rows, dim)
            candidates[name + " packed"] = lambda b=backend: sdpa(b, packed, k, v)
    return best(candidates)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("op", nargs="*", default=["linear", "attention"])
    parser.add_argument("--flashrt", default="build/flashrt")
    parser.add_argument("--match", default=POLICIES, help="names of cases; default: the policies' shapes")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", help="write the rows here")
    options = parser.parse_args()
    command = [options.flashrt, "bench-op", *options.op, "--match", options.match, "--device", "cuda", "--json",
               "--repeats", str(options.repeats)]
    ours = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    print(f"{ours['device']}, {ours['precision']}; torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
    print("| op | case | ours, µs | library, µs | | library ÷ ours | % of roofline |\n|---|---|---|---|---|---|---|")
    for row in ours["rows"]:
        measure = {"linear": linear, "attention": attention}[row["op"]]
        row["library_us"], row["library"] = measure(row["shape"], row["copies"], options.repeats)
        us = row["library_us"]
        cells = [row["op"], row["name"], f"{row['us']:.2f}", f"{us:.2f}" if us else "–", row["library"] or "none runs",
                 f"{us / row['us']:.2f}" if us else "–", f"{row['roofline_percent']:.0f}"]
        print("| " + " | ".join(cells) + " |", flush=True)
        torch.cuda.empty_cache()
    if options.json:
        with open(options.json, "w") as file:
            json.dump(ours, file, indent=1)


main()
