"""What the training reads: prompts as ids, statistics, frame rings on the device, and the thread that keeps them fresh."""

import ctypes
import threading
import time
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

import worlds
from tokenizer import digitise, full_prompt

PROMPT_LENGTH = 28  # ids, padded; the longest prompt has 26


@dataclass
class Stats:
    """Quantiles of state and action; normalised = 2·(x - q01)/(q99 - q01) - 1."""
    table: dict[str, dict[str, np.ndarray]]

    @staticmethod
    def of(states: np.ndarray, actions: np.ndarray) -> "Stats":
        def row(x: np.ndarray) -> dict[str, np.ndarray]:
            q = np.quantile(x, [0.01, 0.99], axis=0)
            return {"mean": x.mean(0), "std": x.std(0), "min": x.min(0), "max": x.max(0), "q01": q[0], "q99": q[1]}

        return Stats({"observation.state": row(states), "action": row(actions.reshape(-1, actions.shape[-1]))})

    def normalise(self, name: str, x: Tensor) -> Tensor:
        low, high = (torch.as_tensor(self.table[name][q], dtype=torch.float32, device=x.device) for q in ("q01", "q99"))
        return 2 * (x - low) / (high - low) - 1

    def unnormalise(self, name: str, x: Tensor) -> Tensor:
        low, high = (torch.as_tensor(self.table[name][q], dtype=torch.float32, device=x.device) for q in ("q01", "q99"))
        return (x + 1) / 2 * (high - low) + low


class Prompts:
    """Pi0.5 prompts as ids on the device, without tokenising per frame: task part | state pieces | ending."""

    def __init__(self, tokenizer: Tokenizer, stats: Stats, device):
        self.t, self.stats, self.device = tokenizer, stats, device
        self.bins = torch.tensor([tokenizer.encode(f" {b}", add_special_tokens=False).ids[0] for b in range(-1, 256)], device=device)
        self.ending = torch.tensor(tokenizer.encode(";\nAction: ", add_special_tokens=False).ids, device=device)
        self.cache: dict[str, list[int]] = {}

    def heads(self, tasks: list[str]) -> tuple[Tensor, Tensor]:
        """-> ids [n, PROMPT_LENGTH] of "<bos>Task: …, State:" and their counts [n]."""
        for task in set(tasks) - self.cache.keys():
            self.cache[task] = self.t.encode(f"Task: {task}, State:").ids
        out = np.zeros((len(tasks), PROMPT_LENGTH), np.int64)
        for i, task in enumerate(tasks):
            out[i, : len(self.cache[task])] = self.cache[task]
        return torch.from_numpy(out), torch.tensor([len(self.cache[task]) for task in tasks])

    def complete(self, heads: Tensor, counts: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """Raw states [n, 4] -> ids and mask [n, PROMPT_LENGTH], as tokenising full_prompt gives them."""
        normal = self.stats.normalise("observation.state", states)
        bins = torch.floor((normal + 1) * 128).clamp(-1, 255).long()  # same edges as digitise: -1 + i/128
        tail = torch.cat([self.bins[bins + 1], self.ending.expand(len(heads), -1)], dim=1)
        at = counts[:, None] + torch.arange(tail.shape[1], device=heads.device)
        ids = heads.scatter(1, at, tail)
        return ids, torch.arange(PROMPT_LENGTH, device=heads.device) < (counts[:, None] + tail.shape[1])

    def check(self, tasks: list[str], states: np.ndarray) -> None:
        """The shortcut equals the tokenizer on these prompts."""
        heads, counts = self.heads(tasks)
        ids, mask = self.complete(heads.to(self.device), counts.to(self.device), torch.from_numpy(states).to(self.device))
        normal = self.stats.normalise("observation.state", torch.from_numpy(states)).numpy()
        for i, task in enumerate(tasks):
            want = self.t.encode(full_prompt(task, digitise(normal[i]))).ids
            assert ids[i, mask[i]].tolist() == want, (task, states[i])


class Ring:
    """The newest `capacity` frames with their labels, on the device."""

    def __init__(self, capacity: int, image_size: int, horizon: int, device):
        self.capacity, self.size, self.next = capacity, 0, 0
        self.images = torch.empty(capacity, worlds.CAMERAS, image_size, image_size, 3, dtype=torch.uint8, device=device)
        self.states = torch.empty(capacity, worlds.STATE_DIM, device=device)
        self.actions = torch.empty(capacity, horizon, worlds.ACTION_DIM, device=device)
        self.heads = torch.zeros(capacity, PROMPT_LENGTH, dtype=torch.int64, device=device)
        self.counts = torch.zeros(capacity, dtype=torch.int64, device=device)

    def add(self, images: Tensor, states: Tensor, actions: Tensor, heads: Tensor, counts: Tensor) -> None:
        """Copies from (pinned) host memory in stream order, so that a sampled row is never half old."""
        done = 0
        while done < len(images):
            n = min(len(images) - done, self.capacity - self.next)
            to, of = slice(self.next, self.next + n), slice(done, done + n)
            for mine, new in ((self.images, images), (self.states, states), (self.actions, actions), (self.heads, heads),
                              (self.counts, counts)):
                mine[to].copy_(new[of], non_blocking=True)
            self.next, self.size, done = (self.next + n) % self.capacity, max(self.size, self.next + n), done + n

    def sample(self, n: int) -> tuple[Tensor, ...]:
        i = torch.randint(self.size, (n,), device=self.images.device)
        return self.images[i], self.states[i], self.actions[i], self.heads[i], self.counts[i]


class ExpertFeed(threading.Thread):
    """Records expert episodes on `threads` cores for as long as the training runs. The lock is released meanwhile."""

    def __init__(self, lib: ctypes.CDLL, ring: Ring, prompts: Prompts, first_seed: int, image_size: int, horizon: int,
                 threads: int, episodes: int = 256):
        super().__init__(daemon=True)
        self.lib, self.ring, self.prompts, self.seed, self.horizon = lib, ring, prompts, first_seed, horizon
        self.threads, self.episodes, self.stop, self.paused, self.frames = threads, episodes, False, False, 0
        pin = torch.cuda.is_available()
        shape = (episodes * 24, worlds.CAMERAS, image_size, image_size, 3)
        self.buffers = [torch.empty(shape, dtype=torch.uint8, pin_memory=pin) for _ in range(2)]

    def block(self, k: int) -> None:
        images = self.buffers[k % 2]
        n, states, actions, episode, tasks = worlds.record(self.lib, self.seed, self.episodes, self.horizon, images.numpy(),
                                                           threads=self.threads)
        self.seed += self.episodes
        heads, counts = self.prompts.heads(tasks)
        e = torch.from_numpy(episode).long()
        self.ring.add(images[:n], torch.from_numpy(states), torch.from_numpy(actions), heads[e], counts[e])
        if torch.cuda.is_available():
            torch.cuda.current_stream().synchronize()
        self.frames += n

    def run(self) -> None:
        k = 0
        while not self.stop:
            if self.paused:
                time.sleep(0.1)
                continue
            self.block(k)
            k += 1
