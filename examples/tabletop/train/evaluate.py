"""Closed-loop success of the policy in PyTorch, f32: the figure that `flashrt eval tabletop` is compared with.

    python evaluate.py [--checkpoint ../policy] [--episodes 400] [--seed 0] [--swapped | --blank]
"""

import argparse
import json
import math
from pathlib import Path

import torch
from tokenizers import Tokenizer

import worlds
from data import Prompts
from train import EXECUTE, Actor, evaluate, load_stats
from policy_checkpoint import load_policy  # on the path since `train`


def wilson(rate: float, n: int) -> list[float]:
    """95 % confidence interval of a success rate (Wilson 1927)."""
    z = 1.959964
    middle, spread = rate + z * z / (2 * n), z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return [round((middle + sign * spread) / (1 + z * z / n), 4) for sign in (-1, 1)]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--checkpoint", type=Path, default=Path(__file__).resolve().parent.parent / "policy")
    p.add_argument("--episodes", type=int, default=400)
    p.add_argument("--seed", type=int, default=0, help="the first of the consecutive episode seeds")
    p.add_argument("--execute", type=int, default=EXECUTE, help="actions executed before the next look")
    p.add_argument("--batch", type=int, default=100, help="episodes played together")
    p.add_argument("--blank", action="store_true", help="control: black images")
    p.add_argument("--swapped", action="store_true", help="control: a prompt for another object")
    a = p.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = Tokenizer.from_file(str(a.checkpoint / "tokenizer.json"))
    prompts = Prompts(tokenizer, load_stats(a.checkpoint), device)
    actor, lib = Actor(load_policy(a.checkpoint).to(device), prompts, device, autocast=False), worlds.load()
    total, looks, families = 0.0, 0.0, dict.fromkeys(worlds.FAMILIES, 0.0)
    for first in range(a.seed, a.seed + a.episodes, a.batch):
        n = min(a.batch, a.seed + a.episodes - first)
        r = evaluate(actor, lib, range(first, first + n), a.execute, a.blank, a.swapped)
        total, looks = total + r["success_rate"] * n, looks + r["looks_per_episode"] * n
        for name, rate in r["tasks"].items():
            families[name] += rate * n / a.episodes
    rate = total / a.episodes
    print(json.dumps({"episodes": a.episodes, "success_rate": round(rate, 4), "ci95": wilson(rate, a.episodes),
                      "tasks": {k: round(v, 4) for k, v in families.items()}, "looks_per_episode": round(looks / a.episodes, 3)}))


if __name__ == "__main__":
    main()
