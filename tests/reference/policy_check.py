"""Compares policy_torch with every recorded case and, where installed, with the public implementations; prints max abs diffs.

    python policy_check.py ../data/policy [--live] [--dtype float64]

--live also runs LeRobot, openpi and transformers on fresh random observations of every checkpoint. Exits 1 on a difference
above 1e-4 of the largest action.
"""

import argparse
import sys
from pathlib import Path

import torch
from safetensors import safe_open

from policy_checkpoint import load_policy, read_case
from record_policy_case import SOURCES, random_inputs

TOLERANCE = 1e-4  # of the largest |action|


def report(name: str, got: torch.Tensor, want: torch.Tensor) -> bool:
    diff, scale = (got - want).abs().max().item(), want.abs().max().item()
    good = diff <= TOLERANCE * scale
    print(f"{name:<64} max abs {diff:.2e}  of {scale:.2f}  {'ok' if good else 'DIFFERS'}")
    return good


def check_cases(directory: Path, dtype: torch.dtype) -> bool:
    model, good = load_policy(directory, dtype), True
    for path in sorted(directory.glob("*case*.safetensors")):
        meta = safe_open(path, "pt").metadata()
        case = {k: v.to(dtype) if v.is_floating_point() else v for k, v in read_case(path).items()}
        want = case.pop("actions")
        model.c.time_grid = meta["time_grid"]
        model.c.time_f64 = meta["source"] != "transformers"
        got = model.sample_actions(**case, num_steps=int(meta["num_steps"]))
        good &= report(f"{directory.name}/{path.name} by {meta['source']}", got, want)
    return good


def check_live(directory: Path) -> bool:
    """policy_torch against each implementation that can read this checkpoint, three fresh observations each."""
    good = True
    for source in ("lerobot", "openpi", "transformers"):
        model = load_policy(directory)
        raw, pi05 = model.c.extra, model.pi05
        readable = {"lerobot": "type" in raw, "openpi": raw.get("model_type") is None and model.c.state_dim == model.c.action_dim,
                    "transformers": not pi05}[source]
        if not readable:
            continue
        run = SOURCES[source](directory)
        model.c.time_grid = "accumulate" if source == "openpi" else "multiply"
        model.c.time_f64 = source != "transformers"
        for seed, (views, absent, valid, padded, steps) in enumerate([(1, [], 1, 1, 1), (2, [0], 6, 9, 3), (3, [1], 9, 20, 10)]):
            x = random_inputs(model.c, views, absent, valid, padded, 77 + seed)
            with torch.no_grad():
                good &= report(f"{directory.name} live {source} views {views} steps {steps}",
                               model.sample_actions(**x, num_steps=steps), run(x, steps))
                if source == "lerobot" and model.c.text.heads == 8:  # its training path is written for eight heads
                    actions, t = torch.randn_like(x["noise"]), torch.tensor([0.1 + 0.3 * seed])
                    good &= report(f"{directory.name} live lerobot training loss, t {t.item():.1f}",
                                   model.loss(**x, actions=actions, t=t), run.loss(x, actions, t))
    return good


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("root", type=Path)
    p.add_argument("--live", action="store_true")
    p.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    a = p.parse_args()
    directories = sorted(f.parent for f in a.root.glob("*/config.json"))
    good = all([check_cases(d, getattr(torch, a.dtype)) for d in directories])
    if a.live:
        good &= all([check_live(d) for d in directories])
    sys.exit(0 if good and directories else 1)


if __name__ == "__main__":
    main()
