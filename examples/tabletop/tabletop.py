"""The tabletop world in Python through ctypes: closed-loop episodes, training data in memory, the shard reader.

Build the library once:
    g++ -O3 -std=c++20 -ffp-contract=off -shared -fPIC -I examples \
        examples/tabletop/{world,tasks,expert,render,record,capi}.cpp -o libtabletop.so
"""

import ctypes
import subprocess
from pathlib import Path

import numpy as np

FAMILIES = ["place", "push", "stack", "beside", "lift"]
CAMERAS, STATE_DIM, ACTION_DIM = 2, 4, 4
FIRST_TRAINING_SEED = 1_000_000
_SOURCES = ["world", "tasks", "expert", "render", "record", "capi"]


def build(output):
    """Compiles the shared library with g++ and returns its path."""
    here = Path(__file__).resolve().parent
    command = ["g++", "-O3", "-std=c++20", "-ffp-contract=off", "-shared", "-fPIC", "-I", str(here.parent)]
    subprocess.run(command + [str(here / f"{s}.cpp") for s in _SOURCES] + ["-o", str(output)], check=True)
    return output


def load(path):
    lib = ctypes.CDLL(str(path))
    u64, i32, f32, ptr = ctypes.c_uint64, ctypes.c_int, ctypes.c_float, ctypes.c_void_p
    text = ctypes.c_char_p
    lib.tabletop_create.restype = ptr
    lib.tabletop_create.argtypes = [i32]
    lib.tabletop_destroy.argtypes = [ptr]
    lib.tabletop_reset.argtypes = [ptr, u64, text, text, i32]
    lib.tabletop_observe.argtypes = [ptr, ptr, ptr]
    lib.tabletop_expert.argtypes = [ptr, ptr]
    lib.tabletop_step.argtypes = [ptr, ptr]
    lib.tabletop_family.argtypes = [ptr]
    lib.tabletop_rollout.argtypes = [u64, i32, i32, i32, f32, i32, ptr, ptr, ptr, text, i32]
    lib.tabletop_record.restype = ctypes.c_longlong
    lib.tabletop_record.argtypes = [text, u64, i32, i32, i32, i32, f32]
    return lib


class World:
    """One episode at a time: reset(seed), observe(), step(action)."""

    def __init__(self, lib, image_size=112):
        self.lib, self.size = lib, image_size
        self.handle = lib.tabletop_create(image_size)
        self.images = np.zeros((CAMERAS, image_size, image_size, 3), np.uint8)
        self.state = np.zeros(STATE_DIM, np.float32)

    def __del__(self):
        self.lib.tabletop_destroy(self.handle)

    def reset(self, seed):
        """Returns the prompt and one for another object of the same scene (the swapped-prompt control)."""
        prompt, swapped = ctypes.create_string_buffer(128), ctypes.create_string_buffer(128)
        self.lib.tabletop_reset(self.handle, seed, prompt, swapped, 128)
        return prompt.value.decode(), swapped.value.decode()

    def observe(self):
        """images u8 [2, size, size, 3] (top, wrist), state f32 [4] (x, y, z, opening); views of own buffers."""
        self.lib.tabletop_observe(self.handle, self.images.ctypes.data, self.state.ctypes.data)
        return self.images, self.state

    def expert(self):
        action = np.zeros(ACTION_DIM, np.float32)
        self.lib.tabletop_expert(self.handle, action.ctypes.data)
        return action

    def step(self, action):
        """1: success, -1: time is up, 0: go on."""
        action = np.ascontiguousarray(action, np.float32)
        return self.lib.tabletop_step(self.handle, action.ctypes.data)

    def family(self):
        return FAMILIES[self.lib.tabletop_family(self.handle)]


def rollout(lib, seed, image_size=112, horizon=16, stride=1, noise=0.6, max_frames=80):
    """One expert episode: prompt, images u8 [n, 2, s, s, 3], states f32 [n, 4], actions f32 [n, horizon, 4].

    ctypes releases the interpreter lock, so several Python threads record in parallel.
    """
    images = np.empty((max_frames, CAMERAS, image_size, image_size, 3), np.uint8)
    states = np.empty((max_frames, STATE_DIM), np.float32)
    actions = np.empty((max_frames, horizon, ACTION_DIM), np.float32)
    prompt = ctypes.create_string_buffer(128)
    n = lib.tabletop_rollout(seed, image_size, horizon, stride, noise, max_frames, images.ctypes.data,
                             states.ctypes.data, actions.ctypes.data, prompt, 128)
    return prompt.value.decode(), images[:n], states[:n], actions[:n]


def read_shard(path):
    """Memory-maps one shard: a dictionary of arrays, with `prompts` a list indexed by `episode_of[frame]`."""
    raw = np.memmap(path, np.uint8, mode="r")
    if raw[:8].tobytes() != b"TABLETOP":
        raise ValueError(f"{path}: not a tabletop shard")
    header = [int(v) for v in raw[8:40].view(np.uint32)]
    frames, episodes, size, cameras, horizon, action, state, prompt = header
    shapes = {
        "images": (np.uint8, (frames, cameras, size, size, 3)),
        "states": (np.float32, (frames, state)),
        "actions": (np.float32, (frames, horizon, action)),
        "episode_of": (np.uint32, (frames,)),
        "prompts": (np.uint8, (episodes, prompt)),
    }
    arrays, at = {"first_seed": int(raw[40:48].view(np.uint64)[0])}, 64
    for name, (dtype, shape) in shapes.items():
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        arrays[name] = raw[at : at + count].view(dtype).reshape(shape)
        at += count
    if at != raw.size:
        raise ValueError(f"{path}: {raw.size} bytes, the header asks for {at}")
    arrays["prompts"] = [bytes(p).rstrip(b"\0").decode() for p in arrays["prompts"]]
    return arrays
