"""Records the trained policy's golden case from LeRobot (or policy_torch): a held-out episode's first and third look.

    PYTHONPATH=lerobot/src python record_case.py OUT_DIR [--from lerobot] [--seed 12]
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

import worlds
from train import EXECUTE, HORIZON, IMAGE, Actor, load_stats, to_model
from data import Prompts
from policy_checkpoint import load_policy
from record_policy_case import SOURCES, record
from tokenizer import digitise, full_prompt


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out", type=Path)
    p.add_argument("--from", dest="source", choices=SOURCES, default="lerobot")
    p.add_argument("--checkpoint", type=Path, default=Path(__file__).resolve().parent.parent / "policy")
    p.add_argument("--seed", type=int, default=12)
    a = p.parse_args()
    device = torch.device("cpu")
    stats, model = load_stats(a.checkpoint), load_policy(a.checkpoint)
    tokenizer = Tokenizer.from_file(str(a.checkpoint / "tokenizer.json"))
    actor, w = Actor(model, Prompts(tokenizer, stats, device), device, False), worlds.Worlds(worlds.load(), 1, IMAGE, HORIZON)
    w.reset(0, a.seed)
    run = SOURCES[a.source](a.checkpoint)
    for look in range(3):
        w.observe()
        noise = torch.randn(1, HORIZON, 4, generator=torch.Generator().manual_seed(a.seed + look))
        if look != 1:
            state = stats.normalise("observation.state", torch.from_numpy(w.states[0])).numpy()
            bins = digitise(state)
            ids = tokenizer.encode(full_prompt(w.prompts[0], bins)).ids
            padded = np.zeros(model.c.max_prompt, np.int64)
            padded[: len(ids)] = ids
            x = {"images": to_model(torch.from_numpy(w.images)), "image_mask": torch.ones(1, 2, dtype=torch.bool),
                 "ids": torch.from_numpy(padded)[None], "id_mask": (torch.arange(len(padded)) < len(ids))[None],
                 "state": torch.from_numpy(state)[None], "noise": noise}
            actions = record(a.checkpoint, a.out / f"tabletop_case_{look}.safetensors", a.source, x, model.c.num_steps, run,
                             task=w.prompts[0], raw_state=json.dumps(w.states[0].tolist()), episode_seed=str(a.seed))
            raw = stats.unnormalise("action", actions[0])
            print(f"look {look}: {w.prompts[0]!r}, bins {bins.tolist()}, first action {raw[0].tolist()}", file=sys.stderr)
        w.step(actor(w, w.prompts, noise), EXECUTE)


if __name__ == "__main__":
    main()
