"""The tabletop world for training: expert data and batches of closed-loop episodes through batch.cpp (ctypes)."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from tabletop import ACTION_DIM, CAMERAS, FAMILIES, STATE_DIM  # noqa: E402

PROMPT_BYTES = 128


def load(output: str = "/tmp/libtabletop_train.so") -> ctypes.CDLL:
    sources = [HERE.parent / f"{s}.cpp" for s in ("world", "tasks", "expert", "render", "record")] + [HERE / "batch.cpp"]
    command = ["g++", "-O3", "-march=native", "-std=c++20", "-ffp-contract=off", "-shared", "-fPIC", "-pthread"]
    subprocess.run(command + ["-I", str(HERE.parent.parent), *map(str, sources), "-o", output], check=True)
    lib = ctypes.CDLL(output)
    u64, i32, f32, ptr = ctypes.c_uint64, ctypes.c_int, ctypes.c_float, ctypes.c_void_p
    lib.batch_record.argtypes = [u64, i32, i32, i32, i32, i32, f32, i32, ptr, ptr, ptr, ptr, ptr, i32]
    lib.batch_create.restype = ptr
    lib.batch_create.argtypes = [i32, i32, i32, i32]
    lib.batch_destroy.argtypes = [ptr]
    lib.batch_reset.argtypes = [ptr, i32, u64, ctypes.c_char_p, ctypes.c_char_p, i32]
    lib.batch_observe.argtypes = [ptr, ptr, ptr, ptr]
    lib.batch_step.argtypes = [ptr, ptr, i32, i32, ptr]
    return lib


def record(lib, first_seed: int, episodes: int, horizon: int, images: np.ndarray, stride: int = 2, noise: float = 0.6,
           threads: int = os.cpu_count()):
    """Fills images u8 [max_frames, 2, s, s, 3] -> frames, states, actions, episode of each frame, prompts."""
    n, size = images.shape[0], images.shape[2]
    states, actions = np.empty((n, STATE_DIM), np.float32), np.empty((n, horizon, ACTION_DIM), np.float32)
    episode, prompts = np.empty(n, np.int32), np.zeros((episodes, PROMPT_BYTES), np.uint8)
    frames = lib.batch_record(first_seed, episodes, threads, size, horizon, stride, noise, n, images.ctypes.data,
                              states.ctypes.data, actions.ctypes.data, episode.ctypes.data, prompts.ctypes.data, PROMPT_BYTES)
    texts = [bytes(p).split(b"\0")[0].decode() for p in prompts]
    return frames, states[:frames], actions[:frames], episode[:frames], texts


class Worlds:
    """`count` worlds stepped together."""

    def __init__(self, lib, count: int, image_size: int, horizon: int, threads: int = os.cpu_count()):
        self.lib, self.count = lib, count
        self.handle = lib.batch_create(count, image_size, horizon, threads)
        shape = (count, CAMERAS, image_size, image_size, 3)
        self.pixels = torch.zeros(shape, dtype=torch.uint8, pin_memory=torch.cuda.is_available())
        self.images = self.pixels.numpy()
        self.states = np.zeros((count, STATE_DIM), np.float32)
        self.labels = np.zeros((count, horizon, ACTION_DIM), np.float32)
        self.status = np.zeros(count, np.int32)
        self.prompts, self.swapped = [""] * count, [""] * count

    def __del__(self):
        self.lib.batch_destroy(self.handle)

    def reset(self, index: int, seed: int) -> None:
        a, b = ctypes.create_string_buffer(PROMPT_BYTES), ctypes.create_string_buffer(PROMPT_BYTES)
        self.lib.batch_reset(self.handle, index, seed, a, b, PROMPT_BYTES)
        self.prompts[index], self.swapped[index], self.status[index] = a.value.decode(), b.value.decode(), 0

    def observe(self, label: bool = False) -> None:
        """Refreshes images, states and (with `label`) the expert's chunks."""
        self.lib.batch_observe(self.handle, self.images.ctypes.data, self.states.ctypes.data,
                               self.labels.ctypes.data if label else None)

    def step(self, actions: np.ndarray, count: int) -> None:
        """Executes the first `count` of actions [worlds, chunk, 4]; `status` says which episodes have ended."""
        actions = np.ascontiguousarray(actions, np.float32)
        self.lib.batch_step(self.handle, actions.ctypes.data, actions.shape[1], count, self.status.ctypes.data)
