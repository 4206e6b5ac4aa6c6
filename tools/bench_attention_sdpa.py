"""Times torch's attention backends at the shapes of bench_attention.cu: us per call in a CUDA graph of 40 calls."""
import sys
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention as sdpa

SHAPES = [  # name, batch, queries, keys, heads, key/value heads, head dim, causal
    ("action 10x532", 1, 10, 532, 8, 1, 256, False), ("action 50x762", 1, 50, 762, 8, 1, 256, False),
    ("action 51x867", 1, 51, 867, 8, 1, 256, False), ("action 50x1018", 1, 50, 1018, 8, 1, 256, False),
    ("action 10x276", 1, 10, 276, 8, 1, 256, False),
    ("prefix 266", 1, 266, 266, 8, 1, 256, False), ("prefix 456", 1, 456, 456, 8, 1, 256, False),
    ("prefix 522", 1, 522, 522, 8, 1, 256, False), ("prefix 712", 1, 712, 712, 8, 1, 256, False),
    ("prefix 778", 1, 778, 778, 8, 1, 256, False), ("prefix 968", 1, 968, 968, 8, 1, 256, False),
    ("vision 1x256", 1, 256, 256, 16, 16, 72, False), ("vision 2x256", 2, 256, 256, 16, 16, 72, False),
    ("vision 3x256", 3, 256, 256, 16, 16, 72, False), ("prefill 2048", 1, 2048, 2048, 32, 8, 128, True),
    ("decode 1x1024", 1, 1, 1024, 32, 8, 128, False), ("decode 1x4096", 1, 1, 4096, 32, 8, 128, False),
]
BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def time_graph(call, count=40):
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(count):
            call()
    times = []
    for i in range(19):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        stop.record()
        torch.cuda.synchronize()
        if i >= 4:
            times.append(start.elapsed_time(stop) * 1e3 / count)
    return sorted(times)[len(times) // 2]


def main():
    print(torch.__version__, torch.cuda.get_device_name(), "cudnn", torch.backends.cudnn.version())
    for name, batch, rows, keys, heads, kv_heads, dim, causal in SHAPES:
        if len(sys.argv) > 1 and sys.argv[1] not in name:
            continue
        q = torch.randn(batch, heads, rows, dim, device="cuda", dtype=torch.bfloat16)
        k, v = (torch.randn(batch, kv_heads, keys, dim, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        kr, vr = (x.repeat_interleave(heads // kv_heads, 1).contiguous() for x in (k, v))
        result = []
        for label, backend in BACKENDS.items():
            best = None
            for kk, vv, gqa in ((kr, vr, False), (k, v, True)):
                try:
                    with sdpa_kernel(backend):
                        t = time_graph(lambda: sdpa(q, kk, vv, is_causal=causal, enable_gqa=gqa))
                    best = t if best is None else min(best, t)
                except Exception:
                    torch.cuda.synchronize()
            result.append(f"{label} {best:7.2f}" if best else f"{label}       -")
        print(f"{name:15s} {'  '.join(result)}", flush=True)


main()
