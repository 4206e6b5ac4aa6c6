"""Trains the tabletop's Pi0.5 policy by imitation: flow matching on expert chunks, then also on states of its own rollouts.

    python train.py --minutes 9 --out OUT                       # first part
    python train.py --minutes 9 --out OUT2 --resume OUT --part 1 # second part, learning rate falling to zero

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

IMAGE, HORIZON, EXECUTE = 112, 16, 8  # pixels, actions per chunk, actions executed before the next look
TRAIN_SEED = 1_000_000  # lower seeds are for evaluation


def make_config(vocab: int, tiny: bool) -> PolicyConfig:
    if tiny:  # the whole pipeline in a minute on a CPU
        return PolicyConfig("pi05", BlockDims(48, 1, 64, 2, 2, 24), BlockDims(48, 2, 64, 2, 1, 16),
                            BlockDims(32, 2, 48, 2, 1, 16), image_size=IMAGE, vocab=vocab, horizon=HORIZON, action_dim=4,
                            state_dim=4, max_prompt=32)
    return PolicyConfig("pi05", BlockDims(192, 4, 576, 6, 6, 32), BlockDims(256, 5, 512, 4, 1, 64),
                        BlockDims(192, 5, 448, 4, 1, 64), image_size=IMAGE, vocab=vocab, horizon=HORIZON, action_dim=4,
                        state_dim=4, max_prompt=32)


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
        images = torch.from_numpy(w.images).to(self.device)
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
    while (w.status == 0).any():
        w.observe()
        noise = torch.randn(len(seeds), HORIZON, 4, device=actor.device, generator=g)
        w.step(actor(w, tasks, noise, blank), execute)
    good = w.status == 1
    family = np.array([s % len(worlds.FAMILIES) for s in seeds])
    return {"episodes": len(seeds), "success_rate": float(good.mean()),
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
        self.ring.add(torch.from_numpy(w.images), torch.from_numpy(w.states), torch.from_numpy(w.labels), heads, counts)
        chunk = actor(w, w.prompts, torch.randn(w.count, HORIZON, 4, device=actor.device))
        w.step(chunk, int(self.rng.integers(1, EXECUTE + 1)))
        self.ended += int((w.status != 0).sum())
        self.won += int((w.status == 1).sum())


def save_checkpoint(directory: Path, model: Policy, weights: dict[str, Tensor], stats: Stats, tokenizer: Tokenizer,
                    dtype: torch.dtype, files: int = 1) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    names = sorted(weights)
    for i in range(files):
        part = {k: weights[k].detach().to(dtype).cpu().contiguous() for k in names[i::files]}
        name = "model.safetensors" if files == 1 else f"part{i}.safetensors"
        save_file(part, directory / name, metadata={"format": "pt"})
    config = lerobot_config(model.c, ["top", "wrist"], 4, 4) | {"n_action_steps": EXECUTE}
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    as_tensors = {k: {q: torch.as_tensor(v, dtype=torch.float32) for q, v in row.items()} for k, row in stats.table.items()}
    lerobot_processors(directory, model.c, as_tensors["observation.state"], as_tensors["action"], ".")
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


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--minutes", type=float, default=9, help="time for training; start-up and evaluation come on top")
    p.add_argument("--resume", type=Path, help="an earlier --out")
    p.add_argument("--part", type=int, default=0)
    p.add_argument("--parts", type=int, default=2)
    p.add_argument("--batch", type=int, default=1024)
    p.add_argument("--repeats", type=int, default=4, help="noise draws per observation")
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--ring", type=int, default=500_000, help="expert frames kept on the device (75 kB each)")
    p.add_argument("--own-ring", type=int, default=300_000, help="frames of own rollouts kept")
    p.add_argument("--own-after", type=float, default=0.25, help="share of part 0 before own rollouts begin")
    p.add_argument("--own-every", type=int, default=6, help="training steps per rollout round")
    p.add_argument("--worlds", type=int, default=1024)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--compile", action="store_true")
    p.add_argument("--tiny", action="store_true")
    p.add_argument("--episodes", type=int, default=400, help="held-out episodes of the final evaluation")
    run(p.parse_args())


def run(a) -> None:
    started = time.time()
    a.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(a.seed + a.part)
    torch.set_float32_matmul_precision("high")
    log_file = open(a.out / "train.jsonl", "w")

    def log(**row) -> None:
        row = {"seconds": round(time.time() - started, 1)} | row
        print(json.dumps(row), flush=True)
        log_file.write(json.dumps(row) + "\n")
        log_file.flush()

    cores = os.cpu_count()
    lib = worlds.load()
    tokenizer = Tokenizer.from_file(str(HERE.parent / "policy" / "tokenizer.json"))
    if a.resume:
        stats = load_stats(a.resume)
    else:
        images = np.empty((4000 if a.tiny else 40000, 2, 14, 14, 3), np.uint8)  # pictures play no part here
        _, states, actions, _, _ = worlds.record(lib, TRAIN_SEED, len(images) // 20, HORIZON, images)
        stats = Stats.of(states, actions)
    prompts = Prompts(tokenizer, stats, device)
    model = Policy(make_config(tokenizer.get_vocab_size(), a.tiny)).to(device)
    initialise(model)
    if a.resume:
        model.load_state_dict({k: v for i in range(3) for k, v in load_file(a.resume / "f32" / f"part{i}.safetensors").items()})
    log(parameters=sum(x.numel() for x in model.parameters()), device=str(device), cores=cores, arguments=str(vars(a)))

    block = 10_000_000
    expert_ring = Ring(a.ring, IMAGE, HORIZON, device)
    feed = ExpertFeed(lib, expert_ring, prompts, TRAIN_SEED + block * (2 * a.part), IMAGE, HORIZON, max(1, cores - 3),
                      64 if a.tiny else 256)
    feed.start()
    own_ring = Ring(a.own_ring, IMAGE, HORIZON, device)
    own = OnPolicy(lib, a.worlds, own_ring, TRAIN_SEED + block * (2 * a.part + 1))
    while feed.frames < min(a.ring // 4, 60_000):
        time.sleep(0.2)
    sample = expert_ring.sample(64)
    probe = worlds.Worlds(lib, 64, IMAGE, HORIZON)
    for i in range(64):
        probe.reset(i, TRAIN_SEED + 77 + i)
    prompts.check(probe.prompts, sample[1].cpu().numpy())
    log(expert_frames=feed.frames, frames_per_second=round(feed.frames / (time.time() - started)))

    ema = {k: v.detach().clone() for k, v in model.state_dict().items()}
    acting = Policy(model.c).to(device).eval()  # a copy that carries the averaged weights
    actor = Actor(acting, prompts, device, autocast=device.type == "cuda")
    matrices = [x for x in model.parameters() if x.ndim > 1]
    others = [x for x in model.parameters() if x.ndim <= 1]
    opt = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}], lr=a.lr,
                            betas=(0.9, 0.95), fused=device.type == "cuda")

    def loss_of(images, seen, ids, mask, actions, noise, t):
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return model.loss(to_model(images), seen, ids, mask, None, actions, noise, t, a.repeats).mean()

    step_loss = torch.compile(loss_of) if a.compile else loss_of
    seen = torch.ones(a.batch, worlds.CAMERAS, dtype=torch.bool, device=device)
    begin, step, total, next_log = None, 0, 0.0, 0
    while True:
        now = time.time()
        if step == 5:  # the first steps compile
            begin = now
        progress = 0.0 if begin is None else (now - begin) / (60 * a.minutes)
        if progress >= 1:
            break
        use_own = a.part > 0 or progress > a.own_after
        if use_own and step % a.own_every == 0:
            acting.load_state_dict(ema)
            own.round(actor)
        n_own = a.batch // 2 if own_ring.size >= 4 * a.worlds else 0
        parts = [expert_ring.sample(a.batch - n_own)] + ([own_ring.sample(n_own)] if n_own else [])
        images, states, actions, heads, counts = (torch.cat(x) for x in zip(*parts))
        ids, mask = prompts.complete(heads, counts, states)
        actions = stats.normalise("action", actions).repeat_interleave(a.repeats, dim=0)
        loss = step_loss(images, seen, ids, mask, actions, torch.randn_like(actions), sample_time(len(actions), device))
        lr = learning_rate(progress, a.lr, a.part, a.parts, step)
        for group in opt.param_groups:
            group["lr"] = lr
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        decay = min(0.999, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(ema.values()), [v.detach() for v in model.state_dict().values()], 1 - decay)
        total = total + loss.detach()
        step += 1
        if begin is not None and now - begin > next_log:
            next_log += 15
            log(step=step, loss=round(float(total) / max(1, step % 10**9 - getattr(a, "logged", 0)), 4), lr=round(lr, 6),
                samples_per_second=round((step - 5) * a.batch / max(1e-9, time.time() - begin)), expert_frames=feed.frames,
                own_frames=own_ring.size, own_success=round(own.won / max(1, own.ended), 3))
            a.logged, total, own.won, own.ended = step, 0.0, 0, 0
    feed.stop = True
    feed.join()
    finish(a, log, model, acting, ema, actor, lib, stats, tokenizer, step)


def finish(a, log, model, acting, ema, actor, lib, stats, tokenizer, steps: int) -> None:
    """Saves f32 weights (to resume) and the bf16 checkpoint, and evaluates the latter in f32."""
    save_checkpoint(a.out / "f32", model, ema, stats, tokenizer, torch.float32, files=3)
    save_checkpoint(a.out, model, ema, stats, tokenizer, torch.bfloat16)
    acting.load_state_dict({k: v.bfloat16().float() for k, v in ema.items()})
    actor.autocast = False
    torch.set_float32_matmul_precision("highest")
    seeds = range(a.episodes)
    for execute in (EXECUTE, EXECUTE // 2):
        log(evaluation=evaluate(actor, lib, seeds, execute), execute=execute, steps=steps)
    log(evaluation=evaluate(actor, lib, seeds, blank=True), control="blank images")
    log(evaluation=evaluate(actor, lib, seeds, swapped=True), control="swapped prompt")


if __name__ == "__main__":
    main()
