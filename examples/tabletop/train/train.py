"""Trains the tabletop's Pi0.5 policy by imitation: flow matching on expert chunks, then also on states of its own rollouts.

    python train.py --compile --minutes 8 --out OUT

In two sittings (the learning rate falls over both): --parts 2, then --parts 2 --part 1 --resume OUT --out OUT2.

One GPU. The worlds run on the CPU cores next to it; nothing is read but this repository.
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2] / "tests" / "reference")]
import worlds  # noqa: E402
from data import ExpertFeed, Prompts, Ring, Stats  # noqa: E402
from policy_checkpoint import lerobot_config  # noqa: E402
from policy_processors import lerobot_processors  # noqa: E402
from policy_torch import BlockDims, Policy, PolicyConfig, sample_time  # noqa: E402

IMAGE, HORIZON, EXECUTE = 112, 12, 8  # pixels, actions per chunk, actions executed before the next look
TRAIN_SEED = 1_000_000  # lower seeds are for evaluation
TOKENIZER = HERE.parent / "policy" / "tokenizer.json"
PARTS = 3  # files of the f32 weights


def make_config(vocab: int, tiny: bool) -> PolicyConfig:
    if tiny:  # the whole pipeline in a minute on a CPU
        return PolicyConfig("pi05", BlockDims(48, 1, 64, 2, 2, 24), BlockDims(48, 2, 64, 2, 1, 16),
                            BlockDims(32, 2, 48, 2, 1, 16), image_size=IMAGE, vocab=vocab, horizon=HORIZON, action_dim=4,
                            state_dim=4, max_prompt=48)
    return PolicyConfig("pi05", BlockDims(192, 4, 576, 6, 6, 32), BlockDims(256, 5, 512, 4, 1, 64),
                        BlockDims(192, 5, 448, 4, 1, 64), image_size=IMAGE, vocab=vocab, horizon=HORIZON, action_dim=4,
                        state_dim=4, max_prompt=48)


def initialise(model: Policy) -> None:
    """Small normal weights, residual outputs scaled by depth; adaRMS starts closed (scale = shift = gate = 0)."""
    for name, p in model.named_parameters():
        if "dense" in name or name.endswith("norm.weight") or name.endswith("layernorm.weight"):
            if "vision_tower" not in name:
                torch.nn.init.zeros_(p)
        elif "embed_tokens" in name or "position_embedding" in name:
            torch.nn.init.normal_(p, std=p.shape[1] ** -0.5 if "embed" in name and "position" not in name else 0.02)
        elif p.ndim > 1:
            std = p[0].numel() ** -0.5
            if any(s in name for s in ("out_proj", "o_proj", "down_proj", "fc2")) and "action" not in name:
                std *= 0.4
            torch.nn.init.normal_(p, std=std)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(p)


def to_model(images: Tensor) -> Tensor:
    """u8 [B, 2, s, s, 3] -> f32 [B, 2, 3, s, s] in [-1, 1]."""
    return images.permute(0, 1, 4, 2, 3).float() / 255 * 2 - 1


class Actor:
    """The policy in closed loop: raw observations of many worlds -> action chunks."""

    def __init__(self, model: Policy, prompts: Prompts, device, autocast: bool):
        self.model, self.prompts, self.device, self.autocast = model, prompts, device, autocast

    @torch.no_grad()
    def __call__(self, w: worlds.Worlds, tasks: list[str], noise: Tensor, blank: bool = False) -> np.ndarray:
        images = w.pixels.to(self.device, non_blocking=True)
        if blank:
            images = torch.zeros_like(images)
        heads, counts = (x.to(self.device) for x in self.prompts.heads(tasks))
        ids, mask = self.prompts.complete(heads, counts, torch.from_numpy(w.states).to(self.device))
        seen = torch.ones(len(tasks), worlds.CAMERAS, dtype=torch.bool, device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            x = self.model.sample_actions(to_model(images), seen, ids, mask, None, noise)
        return self.prompts.stats.unnormalise("action", x.float()).cpu().numpy()


def evaluate(actor: Actor, lib, seeds: range, execute: int = EXECUTE, blank: bool = False, swapped: bool = False) -> dict:
    """Closed-loop success over held-out seeds, per family and overall."""
    w = worlds.Worlds(lib, len(seeds), IMAGE, HORIZON)
    for i, s in enumerate(seeds):
        w.reset(i, s)
    tasks = w.swapped if swapped else w.prompts
    g = torch.Generator(device=actor.device).manual_seed(0)
    looks = 0  # policy calls, summed over the episodes still running
    while (w.status == 0).any():
        w.observe()
        noise = torch.randn(len(seeds), HORIZON, 4, device=actor.device, generator=g)
        looks += int((w.status == 0).sum())
        w.step(actor(w, tasks, noise, blank), execute)
    good = w.status == 1
    family = np.array([s % len(worlds.FAMILIES) for s in seeds])
    return {"episodes": len(seeds), "success_rate": float(good.mean()), "looks_per_episode": looks / len(seeds),
            "tasks": {name: float(good[family == f].mean()) for f, name in enumerate(worlds.FAMILIES)}}


class OnPolicy:
    """Rollouts of the policy being trained, labelled by the expert (Ross et al. 2011, DAgger)."""

    def __init__(self, lib, count: int, ring: Ring, seed: int):
        self.w, self.ring, self.seed = worlds.Worlds(lib, count, IMAGE, HORIZON), ring, seed
        self.w.status[:] = 1  # all ended: reset on the first round
        self.ended, self.won = 0, 0
        self.rng = np.random.default_rng(seed)

    def round(self, actor: Actor) -> None:
        w = self.w
        for i in np.flatnonzero(w.status):
            w.reset(int(i), self.seed)
            self.seed += 1
        w.observe(label=True)
        heads, counts = actor.prompts.heads(w.prompts)
        self.ring.add(w.pixels, torch.from_numpy(w.states), torch.from_numpy(w.labels), heads, counts)
        chunk = actor(w, w.prompts, torch.randn(w.count, HORIZON, 4, device=actor.device))
        w.step(chunk, int(self.rng.integers(1, EXECUTE + 1)))
        self.ended += int((w.status != 0).sum())
        self.won += int((w.status == 1).sum())


def save_checkpoint(directory: Path, c: PolicyConfig, weights: dict[str, Tensor], stats: Stats, tokenizer: Tokenizer) -> None:
    """bf16, LeRobot layout."""
    tensors = {k: v.detach().bfloat16().cpu().contiguous() for k, v in weights.items()}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    config = lerobot_config(c, ["top", "wrist"], 4, 4) | {"n_action_steps": EXECUTE}
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    as_tensors = {k: {q: torch.as_tensor(v, dtype=torch.float32) for q, v in row.items()} for k, row in stats.table.items()}
    lerobot_processors(directory, c, as_tensors["observation.state"], as_tensors["action"], ".")
    tokenizer.save(str(directory / "tokenizer.json"))


def load_stats(directory: Path) -> Stats:
    table: dict = {"observation.state": {}, "action": {}}
    for k, v in load_file(next(directory.glob("policy_preprocessor_step_*.safetensors"))).items():
        name, q = k.rsplit(".", 1)
        table[name][q] = v.numpy()
    return Stats(table)


def learning_rate(progress: float, peak: float, part: int, parts: int, steps: int) -> float:
    """Warm-up over 300 steps of each part, then one cosine over all parts."""
    whole = (part + progress) / parts
    return peak * min(1.0, (steps + 1) / 300) * (0.5 * (1 + math.cos(math.pi * whole)) * 0.99 + 0.01)


def arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--minutes", type=float, default=9, help="time for training; start-up and evaluation come on top")
    p.add_argument("--resume", type=Path, help="an earlier --out")
    p.add_argument("--part", type=int, default=0)
    p.add_argument("--parts", type=int, default=1)
    p.add_argument("--batch", type=int, default=1024)
    p.add_argument("--repeats", type=int, default=4, help="noise draws per observation")
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--ring", type=int, default=500_000, help="expert frames kept on the device (75 kB each)")
    p.add_argument("--own-ring", type=int, default=300_000, help="frames of own rollouts kept")
    p.add_argument("--own-after", type=float, default=0.25, help="share of part 0 before own rollouts begin")
    p.add_argument("--own-every", type=int, default=8, help="training steps per rollout round")
    p.add_argument("--worlds", type=int, default=1024)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--compile", action="store_true")
    p.add_argument("--tiny", action="store_true", help="a toy model, to try the whole pipeline on a CPU")
    p.add_argument("--episodes", type=int, default=400, help="held-out episodes of the final evaluation")
    return p.parse_args()


class Log:
    def __init__(self, path: Path):
        self.started, self.file = time.time(), open(path, "w")

    def __call__(self, **row) -> None:
        row = {"seconds": round(time.time() - self.started, 1)} | row
        print(json.dumps(row), flush=True)
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()


class Trainer:
    def __init__(self, a: argparse.Namespace, log: Log):
        self.a, self.log = a, log
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.lib, self.tokenizer = worlds.load(), Tokenizer.from_file(str(TOKENIZER))
        self.stats = load_stats(a.resume) if a.resume else self.measure_stats()
        self.prompts = Prompts(self.tokenizer, self.stats, self.device)
        self.model = Policy(make_config(self.tokenizer.get_vocab_size(), a.tiny)).to(self.device)
        initialise(self.model)
        if a.resume:
            parts = [load_file(a.resume / f"part{i}.safetensors") for i in range(PARTS)]
            self.model.load_state_dict({k: v for part in parts for k, v in part.items()})
        self.ema = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.acting = Policy(self.model.c).to(self.device).eval()  # a copy that carries the averaged weights
        self.actor = Actor(self.acting, self.prompts, self.device, autocast=self.device.type == "cuda")
        log(parameters=sum(x.numel() for x in self.model.parameters()), device=str(self.device), cores=os.cpu_count(),
            arguments={k: str(v) for k, v in vars(a).items()})

    def measure_stats(self) -> Stats:
        images = np.empty((4000 if self.a.tiny else 40000, 2, 14, 14, 3), np.uint8)  # pictures play no part here
        _, states, actions, _, _ = worlds.record(self.lib, TRAIN_SEED, len(images) // 20, HORIZON, images)
        return Stats.of(states, actions)

    def start_data(self) -> None:
        a, block = self.a, 10_000_000  # seeds per part and source
        first = TRAIN_SEED + 2 * block * a.part
        self.expert_ring = Ring(a.ring, IMAGE, HORIZON, self.device)
        self.own_ring = Ring(a.own_ring, IMAGE, HORIZON, self.device)
        self.feed = ExpertFeed(self.lib, self.expert_ring, self.prompts, first, IMAGE, HORIZON, max(1, os.cpu_count() * 2 // 5),
                               64 if a.tiny else 256)
        self.own = OnPolicy(self.lib, a.worlds, self.own_ring, first + block)
        self.feed.start()
        while self.feed.frames < min(a.ring // 4, 60_000):
            time.sleep(0.2)
        probe = worlds.Worlds(self.lib, 64, 14, HORIZON)
        for i in range(64):
            probe.reset(i, TRAIN_SEED + 77 + i)
        self.prompts.check(probe.prompts, self.expert_ring.sample(64)[1].cpu().numpy())
        self.log(expert_frames=self.feed.frames)

    def start_optimiser(self) -> None:
        a = self.a
        matrices = [x for x in self.model.parameters() if x.ndim > 1]
        others = [x for x in self.model.parameters() if x.ndim <= 1]
        self.opt = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}],
                                     lr=a.lr, betas=(0.9, 0.95), fused=self.device.type == "cuda")
        self.seen = torch.ones(a.batch, worlds.CAMERAS, dtype=torch.bool, device=self.device)

        def loss(images, ids, mask, actions, noise, t):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                return self.model.loss(to_model(images), self.seen, ids, mask, None, actions, noise, t, a.repeats).mean()

        self.loss = torch.compile(loss) if a.compile else loss

    def step(self, index: int, lr: float) -> Tensor:
        a = self.a
        n_own = a.batch // 2 if self.own_ring.size >= 4 * a.worlds else 0
        parts = [self.expert_ring.sample(a.batch - n_own)] + ([self.own_ring.sample(n_own)] if n_own else [])
        images, states, actions, heads, counts = (torch.cat(x) for x in zip(*parts))
        ids, mask = self.prompts.complete(heads, counts, states)
        actions = self.stats.normalise("action", actions).repeat_interleave(a.repeats, dim=0)
        loss = self.loss(images, ids, mask, actions, torch.randn_like(actions), sample_time(len(actions), self.device))
        for group in self.opt.param_groups:
            group["lr"] = lr
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.opt.step()
        self.opt.zero_grad(set_to_none=True)
        decay = min(0.999, (index + 1) / (index + 10))
        torch._foreach_lerp_(list(self.ema.values()), [v.detach() for v in self.model.state_dict().values()], 1 - decay)
        return loss.detach()

    def train(self) -> int:
        a, begin, index, progress = self.a, 0.0, 0, 0.0
        total, count, next_log = torch.zeros((), device=self.device), 0, 0.0
        while progress < 1:
            self.feed.paused = a.compile and index < 5  # leave the cores to the compiler
            if index == 5:
                begin = time.time()
            if begin:
                progress = (time.time() - begin) / (60 * a.minutes)
            if (a.part > 0 or progress > a.own_after) and index % a.own_every == 0:
                self.acting.load_state_dict(self.ema)
                self.own.round(self.actor)
            lr = learning_rate(progress, a.lr, a.part, a.parts, index)
            total, count, index = total + self.step(index, lr), count + 1, index + 1
            if begin and time.time() - begin > next_log:
                next_log += 15
                loss = round(float(total) / count, 4)
                self.log(step=index, loss=loss, lr=round(lr, 6), expert_frames=self.feed.frames,
                         samples_per_second=round((index - 5) * a.batch / max(1e-9, time.time() - begin)),
                         own_frames=self.own_ring.size, own_success=round(self.own.won / max(1, self.own.ended), 3))
                total, count, self.own.won, self.own.ended = total * 0, 0, 0, 0
        self.feed.stop = True
        self.feed.join()
        return index

    def finish(self, steps: int) -> None:
        """Saves f32 weights (to resume) and the bf16 checkpoint, and evaluates the latter in f32."""
        names = sorted(self.ema)
        for i in range(PARTS):
            save_file({k: self.ema[k].cpu().contiguous() for k in names[i::PARTS]}, self.a.out / f"part{i}.safetensors")
        save_checkpoint(self.a.out, self.model.c, self.ema, self.stats, self.tokenizer)
        self.acting.load_state_dict({k: v.bfloat16().float() for k, v in self.ema.items()})
        self.actor.autocast = False
        torch.set_float32_matmul_precision("highest")
        seeds = range(self.a.episodes)
        for execute in (EXECUTE, EXECUTE // 2):
            self.log(evaluation=evaluate(self.actor, self.lib, seeds, execute), execute=execute, steps=steps)
        self.log(evaluation=evaluate(self.actor, self.lib, seeds, blank=True), control="blank images")
        self.log(evaluation=evaluate(self.actor, self.lib, seeds, swapped=True), control="swapped prompt")


def main() -> None:
    a = arguments()
    a.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(a.seed + a.part)
    torch.set_float32_matmul_precision("high")
    trainer = Trainer(a, Log(a.out / "train.jsonl"))
    trainer.start_data()
    trainer.start_optimiser()
    trainer.finish(trainer.train())


if __name__ == "__main__":
    main()
