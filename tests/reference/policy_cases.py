"""Makes tests/data/policy: tiny random checkpoints in every layout, with cases recorded by the public implementations.

    python policy_cases.py ../data/policy [NAME ...] [--source reference]

Weights and inputs depend on the seeds below only. README.md beside this says what to install.
"""

import argparse
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from policy_checkpoint import lerobot_config, save_tensors, vlm_config, write_case
from policy_processors import write_lerobot_processors, write_openpi_assets
from policy_torch import BlockDims, Policy, PolicyConfig
from record_policy_case import SOURCES, random_inputs, record


@dataclass
class Observe:
    """One case: cameras, valid and padded prompt length, denoising steps."""
    views: int
    absent: list[int]
    valid: int
    padded: int
    steps: int


@dataclass
class Spec:
    config: PolicyConfig
    layout: str  # see policy_checkpoint.layout_names
    source: str  # the implementation that records
    cases: list[Observe]
    dtype: torch.dtype = torch.float32
    shards: int = 1
    cameras: list[str] = field(default_factory=lambda: ["base", "left_wrist", "right_wrist"])
    state_len: int = 6
    action_len: int = 5


def vision(width: int, layers: int, mlp: int, heads: int) -> BlockDims:
    return BlockDims(width, layers, mlp, heads, heads, width // heads)


def config(family: str, v: BlockDims, text: tuple[int, int], expert: tuple[int, int], layers: int, heads: int, kv: int,
           head_dim: int, **more) -> PolicyConfig:
    """text and expert are (width, mlp); both stacks share layers, heads and head_dim."""
    return PolicyConfig(family, v, BlockDims(text[0], layers, text[1], heads, kv, head_dim),
                        BlockDims(expert[0], layers, expert[1], heads, kv, head_dim),
                        **{"image_size": 28, "vocab": 96, "horizon": 5, "action_dim": 8, "state_dim": 8,
                           "max_prompt": 24} | more)


SPECS = {
    "pi05_basic": Spec(
        config("pi05", vision(32, 2, 48, 4), (32, 64), (24, 48), 2, 4, 1, 8), "lerobot", "lerobot",
        [Observe(1, [], 8, 8, 10), Observe(2, [], 5, 12, 10), Observe(3, [2], 7, 24, 4)]),
    "pi0_basic": Spec(
        config("pi0", vision(32, 2, 48, 4), (32, 64), (24, 48), 2, 4, 1, 8), "lerobot", "lerobot",
        [Observe(1, [], 8, 8, 10), Observe(2, [], 5, 12, 10), Observe(3, [2], 7, 24, 4)]),
    "pi05_gqa_odd": Spec(  # six query heads over two KV heads; nothing is a power of two
        config("pi05", vision(30, 3, 37, 3), (42, 77), (26, 51), 3, 6, 2, 24, image_size=42, horizon=7, action_dim=7,
               state_dim=7), "lerobot_model", "lerobot",
        [Observe(2, [], 9, 9, 5), Observe(3, [0], 1, 13, 1), Observe(3, [1], 13, 17, 10)]),
    "pi0_mha_odd": Spec(  # five heads, each with keys of its own; state wider than the actions
        config("pi0", vision(35, 2, 33, 5), (38, 45), (22, 29), 2, 5, 5, 16, image_size=42, horizon=1, action_dim=5,
               state_dim=9, num_steps=5), "lerobot_tied", "lerobot",
        [Observe(1, [], 3, 3, 5), Observe(3, [0, 2], 11, 19, 1), Observe(3, [], 10, 24, 10)], state_len=9),
    "pi05_mqa_seven": Spec(  # seven heads on one KV head, stored in bf16, computed in f32
        config("pi05", vision(21, 2, 50, 7), (28, 60), (36, 41), 2, 7, 1, 10, image_size=56, horizon=16, action_dim=12,
               state_dim=12, num_steps=4), "lerobot", "lerobot",
        [Observe(2, [1], 6, 16, 4), Observe(2, [], 16, 16, 10)], dtype=torch.bfloat16, cameras=["top", "wrist"]),
    "pi0_openpi": Spec(  # openpi's names with the vision_model level, its time grid, two shards
        config("pi0", vision(24, 2, 40, 3), (32, 48), (32, 56), 3, 3, 1, 16, vocab=80, horizon=10, action_dim=14,
               state_dim=14), "openpi", "openpi",
        [Observe(3, [2], 9, 24, 10), Observe(3, [], 24, 24, 4)], shards=2, state_len=8, action_len=7),
    "pi05_openpi": Spec(
        config("pi05", vision(24, 2, 40, 2), (32, 48), (20, 44), 4, 2, 1, 12, vocab=80, horizon=10, action_dim=32,
               state_dim=32), "openpi", "openpi",
        [Observe(3, [2], 14, 24, 10), Observe(2, [], 4, 9, 5)], state_len=8, action_len=7),
    "pi0_transformers": Spec(  # what PI0ForConditionalGeneration.save_pretrained writes
        config("pi0", vision(36, 2, 44, 3), (40, 66), (28, 38), 2, 5, 1, 8, image_size=42, horizon=6, action_dim=10,
               state_dim=6), "transformers_saved", "transformers",
        [Observe(2, [], 7, 12, 10), Observe(3, [1], 10, 10, 4)]),
    "pi0_transformers_names": Spec(  # the same model by its module names
        config("pi0", vision(24, 1, 30, 2), (24, 40), (16, 26), 2, 4, 2, 8, horizon=4, action_dim=6, state_dim=6),
        "transformers", "transformers", [Observe(2, [0], 6, 8, 10)]),
}


def randomise(model: Policy, seed: int) -> None:
    """Every parameter is random; adaRMS denses start at zero in the public code, which would hide errors."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim > 1:
                fan_in = model.c.text.width if "embed_tokens" in name else p[0].numel()
                scale = 0.3 if "position_embedding" in name else 0.6 if "dense" in name else 1.2
                p.copy_(torch.randn(p.shape, generator=g) * scale / (1 if "position" in name else fan_in ** 0.5))
            elif name.endswith("layer_norm1.weight") or name.endswith("layer_norm2.weight") or "post_layernorm.weight" in name:
                p.copy_(1 + 0.3 * torch.randn(p.shape, generator=g))
            else:
                p.copy_(0.3 * torch.randn(p.shape, generator=g))


def write_config(spec: Spec, directory: Path) -> None:
    c = spec.config
    if spec.layout == "openpi":
        fields = {"action_dim": c.action_dim, "action_horizon": c.horizon, "paligemma_variant": "gemma_2b",
                  "action_expert_variant": "gemma_300m", "precision": "float32", **vlm_config(c)}
    elif spec.layout.startswith("transformers"):
        fields = {"architectures": ["PI0ForConditionalGeneration"], "model_type": "pi0", "chunk_size": c.horizon,
                  "max_state_dim": c.state_dim, "max_action_dim": c.action_dim, "num_inference_steps": c.num_steps,
                  "min_period": c.min_period, "max_period": c.max_period, "dtype": "float32", "loss_reduction": "mean",
                  "time_sampling_beta_alpha": 1.5, "time_sampling_beta_beta": 1.0, "time_sampling_offset": 0.001,
                  "time_sampling_scale": 0.999, "transformers_version": "5.17.0", **vlm_config(c)}
    else:
        fields = lerobot_config(c, spec.cameras, spec.state_len, spec.action_len)
    (directory / "config.json").write_text(json.dumps(fields, indent=2) + "\n")


def make(name: str, spec: Spec, root: Path, source: str | None) -> None:
    directory, seed = root / name, 1000 + list(SPECS).index(name)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    torch.manual_seed(seed)
    model = Policy(spec.config)
    randomise(model, seed)
    write_config(spec, directory)
    save_tensors(model, directory, spec.layout, spec.dtype, spec.shards)
    if spec.layout == "openpi":
        write_openpi_assets(directory, spec.state_len, spec.action_len, seed)
    elif spec.layout.startswith("lerobot"):
        write_lerobot_processors(directory, spec.config, spec.state_len, spec.action_len, seed)
    source = source or spec.source
    run = SOURCES[source](directory)
    for i, o in enumerate(spec.cases):
        inputs = random_inputs(spec.config, o.views, o.absent, o.valid, o.padded, seed * 10 + i)
        actions = record(directory, directory / f"case_{i}.safetensors", source, inputs, o.steps, run)
        moved = (actions - inputs["noise"]).abs().mean()
        print(f"{name} case {i}: {source}, |actions| <= {actions.abs().max():.3f}, mean move {moved:.3f}")


def from_golden(root: Path, file: Path, row: int) -> None:
    """A `w.* in.* out.actions` file of openpi's "dummy" size with 224 px images -> checkpoint and one case.

    Its third camera is masked, which equals leaving it out; its heads are unused, its embedding is embed_tokens.
    """
    t = load_file(file)
    family = "pi05" if "w.time_mlp_in.weight" in t else "pi0"
    d = BlockDims(64, 4, 128, 8, 1, 16)
    c = PolicyConfig(family, vision(72, 2, 96, 4), d, d, image_size=224, vocab=512, horizon=10, max_prompt=20)
    directory = root / f"{family}_dummy224"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    cameras = ["base", "left_wrist"]
    (directory / "config.json").write_text(json.dumps(lerobot_config(c, cameras, 32, 32), indent=2) + "\n")
    weights = {k[2:]: v for k, v in t.items() if k.startswith("w.") and "lm_head" not in k}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    images = torch.stack([t["in.img0"][row], t["in.img1"][row]])
    write_case(directory / f"case_{row}.safetensors", images, torch.ones(2), t["in.tok"][row], t["in.tokmask"][row],
               t["in.state"][row], t["in.noise"][row], t["out.actions"][row], family=family, source="openpi", num_steps=10,
               time_grid="accumulate")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("root", type=Path)
    p.add_argument("names", nargs="*")
    p.add_argument("--source", choices=SOURCES, help="record all with this implementation")
    p.add_argument("--golden", type=Path, help="convert FILE instead, an openpi recording with its weights")
    p.add_argument("--row", type=int, default=0, help="batch row of --golden")
    a = p.parse_args()
    if a.golden:
        return from_golden(a.root, a.golden, a.row)
    for name in a.names or SPECS:
        make(name, SPECS[name], a.root, a.source)


if __name__ == "__main__":
    main()
