"""Writes normalisation statistics and processor files as LeRobot and openpi store them beside a checkpoint."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from policy_torch import PolicyConfig

Stats = dict[str, Tensor]  # mean, std, min, max, q01, q99, each f32 [dims]


def random_stats(n: int, g: torch.Generator) -> Stats:
    mean, std = torch.randn(n, generator=g), 0.2 + torch.rand(n, generator=g)
    low, high = mean - 2.2 * std, mean + 2.4 * std
    return {"mean": mean, "std": std, "min": low - 0.3, "max": high + 0.4, "q01": low, "q99": high}


def lerobot_processors(directory: Path, c: PolicyConfig, state: Stats, action: Stats, tokenizer: str) -> None:
    """policy_preprocessor.json, policy_postprocessor.json and their statistics, in LeRobot's step order."""
    pi05 = c.family == "pi05"
    norm = "QUANTILES" if pi05 else "MEAN_STD"
    mapping = {"VISUAL": "IDENTITY", "STATE": norm, "ACTION": norm}
    features = {"observation.state": {"type": "STATE", "shape": [len(state["mean"])]},
                "action": {"type": "ACTION", "shape": [len(action["mean"])]}}
    stats = {f"observation.state.{k}": v for k, v in state.items()} | {f"action.{k}": v for k, v in action.items()}

    def step(name: str, file: str | None = None, **config) -> dict:
        return {"registry_name": name, "config": config} | ({"state_file": file} if file else {})

    def normalizer(name: str, file: str, which: dict) -> dict:
        return step(name, file, eps=1e-8, features=which, norm_map=mapping)

    tokenize = step("tokenizer_processor", max_length=c.max_prompt, task_key="task", padding_side="right",
                    padding="max_length", truncation=True, tokenizer_name=tokenizer)
    relative = step("relative_actions_processor", enabled=False, exclude_joints=["gripper"], action_names=None)
    head = [step("rename_observations_processor", rename_map={}), step("to_batch_processor")]
    device = step("device_processor", device="cpu", float_dtype=None)
    index = 3 if pi05 else 6
    file = f"policy_preprocessor_step_{index}_normalizer_processor.safetensors"
    normalize = normalizer("normalizer_processor", file, features)
    if pi05:
        prepare = step("pi05_prepare_state_tokenizer_processor_step")
        steps = [*head, relative, normalize, prepare, tokenize, device]
    else:
        steps = [*head, step("pi0_new_line_processor"), tokenize, device, relative, normalize]
    assert steps[index] is normalize
    after = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"
    post = [normalizer("unnormalizer_processor", after, {"action": features["action"]}),
            step("absolute_actions_processor", enabled=False), step("device_processor", device="cpu", float_dtype=None)]
    for name, body in (("policy_preprocessor", steps), ("policy_postprocessor", post)):
        (directory / f"{name}.json").write_text(json.dumps({"name": name, "steps": body}, indent=2) + "\n")
    for name in (file, after):
        save_file({k: v.clone() for k, v in stats.items()}, directory / name)


def write_lerobot_processors(directory: Path, c: PolicyConfig, state_len: int, action_len: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    lerobot_processors(directory, c, random_stats(state_len, g), random_stats(action_len, g), "google/paligemma-3b-pt-224")


def write_openpi_assets(directory: Path, state_len: int, action_len: int, seed: int) -> None:
    """assets/<asset>/norm_stats.json; openpi's arrays may be longer than the robot's dims."""
    g = torch.Generator().manual_seed(seed)

    def lists(n: int) -> dict:
        return {k: [float(x) for x in v] for k, v in random_stats(n, g).items() if k not in ("min", "max")}

    path = directory / "assets" / "tiny_robot"
    path.mkdir(parents=True)
    stats = {"norm_stats": {"state": lists(state_len), "actions": lists(action_len + 2)}}
    (path / "norm_stats.json").write_text(json.dumps(stats, indent=2) + "\n")
