"""Reads and writes policy checkpoint directories in every public layout, and writes recorded cases (case format 1)."""

import json
import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from policy_torch import BlockDims, Policy, PolicyConfig

VLM = "paligemma_with_expert.paligemma.model."
EXPERT = "paligemma_with_expert.gemma_expert.model."
EMBEDDING = VLM + "language_model.embed_tokens.weight"
LM_HEAD = "paligemma_with_expert.paligemma.lm_head.weight"

VARIANTS = {  # width, layers, mlp, heads, kv_heads, head_dim
    "gemma_2b": BlockDims(2048, 18, 16384, 8, 1, 256),
    "gemma_300m": BlockDims(1024, 18, 4096, 8, 1, 256),
    "dummy": BlockDims(64, 4, 128, 8, 1, 16),
}
SO400M = BlockDims(1152, 27, 4304, 16, 16, 72)


# ---- configuration ---------------------------------------------------------------------------------------------------

def block_dims(fields: dict | None, base: BlockDims) -> BlockDims:
    """Transformers' field names over the variant's dims."""
    f = fields or {}
    heads, width = f.get("num_attention_heads", base.heads), f.get("hidden_size", base.width)
    return BlockDims(width, f.get("num_hidden_layers", base.layers), f.get("intermediate_size", base.mlp), heads,
                     f.get("num_key_value_heads", base.kv_heads), f.get("head_dim", base.head_dim))


def read_config(directory: Path, keys: list[str]) -> PolicyConfig:
    """The three dialects of config.json; openpi's does not name the family, its tensors do."""
    raw = json.loads((directory / "config.json").read_text())
    vlm, vision = raw.get("vlm_config") or {}, (raw.get("vlm_config") or {}).get("vision_config") or {}
    family = raw.get("type") or raw.get("model_type") or ("pi05" if any("time_mlp_in" in k and "action" not in k for k in keys)
                                                          else "pi0")
    v = block_dims(vision, SO400M)
    v.kv_heads, v.head_dim = v.heads, v.width // v.heads
    openpi = "action_horizon" in raw
    action_dim = raw["action_dim"] if openpi else raw.get("max_action_dim", 32)
    text = block_dims(vlm.get("text_config"), VARIANTS[raw.get("paligemma_variant", "gemma_2b")])
    return PolicyConfig(
        family=family, vision=v, text=text,
        expert=block_dims(raw.get("dit_config"), VARIANTS[raw.get("action_expert_variant", "gemma_300m")]),
        image_size=vision.get("image_size", (raw.get("image_resolution") or [224])[0]),
        patch_size=vision.get("patch_size", 14),
        vocab=(vlm.get("text_config") or {}).get("vocab_size", 257152),
        horizon=raw["action_horizon"] if openpi else raw.get("chunk_size", 50),
        action_dim=action_dim, state_dim=action_dim if openpi else raw.get("max_state_dim", 32),
        num_steps=raw.get("num_inference_steps", 10),
        max_prompt=raw.get("tokenizer_max_length", 200 if family == "pi05" else 48),
        min_period=raw.get("min_period", 4e-3), max_period=raw.get("max_period", 4.0),
        time_grid="accumulate" if openpi else "multiply", time_f64="model_type" not in raw, extra=raw)


def vlm_config(c: PolicyConfig) -> dict:
    def fields(d: BlockDims) -> dict:
        return {"hidden_size": d.width, "num_hidden_layers": d.layers, "intermediate_size": d.mlp,
                "num_attention_heads": d.heads}

    def gemma(d: BlockDims) -> dict:
        return {"model_type": "gemma", **fields(d), "num_key_value_heads": d.kv_heads, "head_dim": d.head_dim,
                "vocab_size": c.vocab}

    vision = {"model_type": "siglip_vision_model", **fields(c.vision), "image_size": c.image_size,
              "patch_size": c.patch_size, "projection_dim": c.text.width, "vision_use_head": False}
    return {"vlm_config": {"model_type": "paligemma", "projection_dim": c.text.width, "image_token_id": c.vocab - 1,
                           "vocab_size": c.vocab, "text_config": gemma(c.text), "vision_config": vision},
            "dit_config": gemma(c.expert)}


def lerobot_config(c: PolicyConfig, cameras: list[str], state_len: int, action_len: int) -> dict:
    pi05 = c.family == "pi05"
    norm = "QUANTILES" if pi05 else "MEAN_STD"
    images = {f"observation.images.{n}": {"type": "VISUAL", "shape": [3, c.image_size, c.image_size]} for n in cameras}
    return {
        "type": c.family, "n_obs_steps": 1,
        "input_features": {**images, "observation.state": {"type": "STATE", "shape": [state_len]}},
        "output_features": {"action": {"type": "ACTION", "shape": [action_len]}},
        "device": "cpu", "use_amp": False, "push_to_hub": False, "paligemma_variant": "gemma_2b",
        "action_expert_variant": "gemma_300m", "dtype": "float32", "chunk_size": c.horizon, "n_action_steps": c.horizon,
        "max_state_dim": c.state_dim, "max_action_dim": c.action_dim, "num_inference_steps": c.num_steps,
        "time_sampling_beta_alpha": 1.5, "time_sampling_beta_beta": 1.0, "time_sampling_scale": 0.999,
        "time_sampling_offset": 0.001, "min_period": c.min_period, "max_period": c.max_period,
        "image_resolution": [c.image_size, c.image_size], "empty_cameras": 0, "tokenizer_max_length": c.max_prompt,
        "normalization_mapping": {"VISUAL": "IDENTITY", "STATE": norm, "ACTION": norm}, **vlm_config(c),
    }


# ---- tensors ---------------------------------------------------------------------------------------------------------

def canonical_names(tensors: dict[str, Tensor], pi05: bool) -> dict[str, Tensor]:
    """Any layout's names -> the names of policy_torch.Policy; unused tensors are dropped."""
    out: dict[str, Tensor] = {}
    for key, value in tensors.items():
        k = key.replace("model.vlm.", VLM).replace("model.dit.", EXPERT).removeprefix("embed_action_time.")
        k = k.removeprefix("model.")
        k = k.replace("vision_tower.vision_model.", "vision_tower.").replace("language_model.model.", "language_model.")
        if k.startswith(EXPERT + "embed_tokens") or k.startswith("paligemma_with_expert.gemma_expert.lm_head"):
            continue
        if pi05:
            k = k.replace("action_time_mlp_", "time_mlp_")
            if k.startswith("state_proj") or (k.startswith(EXPERT) and re.search(r"norm\.weight$", k)):
                continue
        if k == LM_HEAD:
            out[EMBEDDING] = value
        elif k != EMBEDDING or EMBEDDING not in out:
            out[k] = value
    return out


def load_policy(directory: str | Path, dtype: torch.dtype = torch.float32) -> Policy:
    directory = Path(directory)
    index = directory / "model.safetensors.index.json"
    files = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else ["model.safetensors"]
    tensors = {k: v for f in files for k, v in load_file(directory / f).items()}
    config = read_config(directory, list(tensors))
    model = Policy(config).to(dtype)
    model.load_state_dict(canonical_names(tensors, config.family == "pi05"))
    return model.eval()


def save_tensors(model: Policy, path: Path, layout: str, dtype: torch.dtype = torch.float32, shards: int = 1) -> None:
    """Layouts: see layout_name. Sharded files carry the usual index."""
    tensors: dict[str, Tensor] = {}
    for k, v in model.state_dict().items():
        for name in layout_names(k, layout):
            tensors[name] = v.detach().to(dtype).contiguous().clone()
    if layout in ("openpi", "transformers_saved"):  # the expert's token embedding, stored and never used
        rows = model.c.vocab if layout == "transformers_saved" else 8
        tensors["paligemma_with_expert.gemma_expert.lm_head.weight"] = torch.randn(rows, model.c.expert.width).to(dtype)
    if shards == 1:
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
        return
    names = sorted(tensors)
    weight_map = {n: f"model-{i * shards // len(names) + 1:05d}-of-{shards:05d}.safetensors" for i, n in enumerate(names)}
    for file in sorted(set(weight_map.values())):
        save_file({n: tensors[n] for n in names if weight_map[n] == file}, path / file, metadata={"format": "pt"})
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    (path / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=1))


def layout_names(key: str, layout: str) -> list[str]:
    """The names one canonical tensor is stored under.

    lerobot: as here, embedding as lm_head; lerobot_tied: embedding under both names; lerobot_model: "model." in front;
    openpi: lm_head, vision_model level; transformers: module names of PI0ForConditionalGeneration;
    transformers_saved: what its save_pretrained writes (release 5.17).
    """
    head = [LM_HEAD] if key == EMBEDDING else [key]
    if layout == "lerobot":
        return head
    if layout == "lerobot_tied":
        return [LM_HEAD, EMBEDDING] if key == EMBEDDING else [key]
    if layout == "lerobot_model":
        return ["model." + key]
    if layout == "openpi":
        return [head[0].replace("vision_tower.", "vision_tower.vision_model.")]
    if layout == "transformers_saved":
        return [key.replace("language_model.", "language_model.model.")]
    assert layout == "transformers", layout
    if re.match(r"(state_proj|action_in_proj|action_time_mlp)", key):
        return ["embed_action_time." + key]
    return [key.replace(VLM, "model.vlm.").replace(EXPERT, "model.dit.")]


# ---- cases -----------------------------------------------------------------------------------------------------------

def write_case(path: Path, images: Tensor, image_mask: Tensor, ids: Tensor, id_mask: Tensor, state: Tensor, noise: Tensor,
               actions: Tensor, **metadata: str) -> None:
    """One observation (no batch dimension) and its actions in model space. images [V,3,H,W] in [-1,1]."""
    tensors = {f"in.image.{i}": im.float() for i, im in enumerate(images)}
    tensors |= {"in.image_mask": image_mask.int(), "in.token_ids": ids.int(), "in.token_mask": id_mask.int(),
                "in.state": state.float(), "in.noise": noise.float(), "out.actions": actions.float()}
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, path,
              metadata={"format": "flashrt-case-1", "kind": "policy", **{k: str(v) for k, v in metadata.items()}})


def read_case(path: Path) -> dict[str, Tensor]:
    """-> the arguments of Policy.sample_actions with a batch of one, and "actions"."""
    t = load_file(path)
    views = sum(k.startswith("in.image.") for k in t)
    return {"images": torch.stack([t[f"in.image.{i}"] for i in range(views)])[None],
            "image_mask": t["in.image_mask"].bool()[None], "ids": t["in.token_ids"].long()[None],
            "id_mask": t["in.token_mask"].bool()[None], "state": t["in.state"][None], "noise": t["in.noise"][None],
            "actions": t["out.actions"][None]}
