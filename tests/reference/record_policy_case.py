"""Records a Pi0 or Pi0.5 case file (case format 1) from LeRobot, openpi, transformers or policy_torch.

    python record_policy_case.py CHECKPOINT CASE.safetensors --from lerobot --views 3 --absent 2 --prompt-tokens 12,20

CHECKPOINT is a directory (config.json and model.safetensors). The observation is random unless --inputs names another case
to take it from. `flashrt verify CHECKPOINT CASE.safetensors` then replays it. README.md beside this describes the format.
"""

import argparse
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import torch
from safetensors.torch import load_file
from torch import Tensor

from policy_checkpoint import canonical_names, layout_names, load_policy, read_case, read_config, write_case
from policy_torch import PolicyConfig

Inputs = dict[str, Tensor]  # the arguments of Policy.sample_actions, batch first


def random_inputs(c: PolicyConfig, views: int, absent: list[int], valid: int, padded: int, seed: int) -> Inputs:
    """Smooth images with noise, uniform ids, normal state and noise; the last `padded - valid` ids are padding (0)."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(views, 3, 5, 5, generator=g) * 2 - 1
    images = torch.nn.functional.interpolate(coarse, size=(c.image_size, c.image_size), mode="bilinear")
    images = (images + 0.2 * torch.randn(images.shape, generator=g)).clamp(-1, 1)
    mask = torch.ones(views, dtype=torch.bool)
    for i in absent:
        images[i], mask[i] = -1.0, False
    ids = torch.randint(3, c.vocab - 1, (padded,), generator=g)
    ids[0], ids[valid:] = 2, 0
    noise = torch.randn(c.horizon, c.action_dim, generator=g)
    state = torch.randn(c.state_dim, generator=g)
    return {k: v[None] for k, v in {"images": images, "image_mask": mask, "ids": ids, "id_mask": torch.arange(padded) < valid,
                                    "state": state, "noise": noise}.items()}


# ---- the public implementations, each -> f(inputs, num_steps) -> actions [B, H, A] ------------------------------------

def from_reference(directory: Path):
    model = load_policy(directory)
    return lambda x, steps: model.sample_actions(**x, num_steps=steps)


def load_tensors(directory: Path) -> dict[str, Tensor]:
    return {k: v.float() for f in sorted(directory.glob("model*.safetensors")) for k, v in load_file(f).items()}


def tiny_vlm(cls, c: PolicyConfig):
    """The PaliGemma class of LeRobot or openpi fixes some dims in its caller; set ours before it is built."""

    def build(config):
        v = config.vision_config
        v.hidden_size, v.num_hidden_layers, v.num_attention_heads = c.vision.width, c.vision.layers, c.vision.heads
        v.intermediate_size, v.image_size, v.patch_size, v.projection_dim = c.vision.mlp, c.image_size, c.patch_size, c.text.width
        config.projection_dim = c.text.width
        config.text_config.vocab_size = c.vocab
        return cls(config=config)

    return build


def load_core(core, tensors: dict[str, Tensor], c: PolicyConfig):
    """Loads canonical tensors into a PI0Pytorch-like module; only its unused heads may be missing."""
    missing, unexpected = core.load_state_dict(canonical_names(tensors, c.family == "pi05"), strict=False)
    assert not unexpected and all("lm_head" in k for k in missing), (missing, unexpected)
    return core.eval()


def plain_mask():
    """LeRobot passes arguments to create_causal_mask that newer transformers lack; its masks are 4-D already."""
    import lerobot.policies.pi_gemma as pi_gemma
    pi_gemma.create_causal_mask = lambda attention_mask, **_: attention_mask


def from_lerobot(directory: Path):
    """LeRobot's PI0Pytorch / PI05Pytorch. Checkpoints with a vlm_config (any dims) are built with those dims."""
    raw = json.loads((directory / "config.json").read_text())
    family = raw["type"]
    module = __import__(f"lerobot.policies.{family}.modeling_{family}", fromlist=["x"])
    plain_mask()
    if "vlm_config" not in raw:
        policy = getattr(module, f"{family.upper()}Policy").from_pretrained(directory)
        core = policy.model.eval()
    else:
        tensors = load_tensors(directory)
        c = read_config(directory, list(tensors))
        config = SimpleNamespace(**{k: v for k, v in raw.items()}, freeze_vision_encoder=False, train_expert_only=False,
                                 compile_model=False, rtc_config=None, gradient_checkpointing=False,
                                 use_proprioceptive_memory=False, use_visual_memory=False, rtc_training_max_delay=0)
        dims = {"gemma_2b": c.text, "gemma_300m": c.expert}

        def variant(name):
            d = dims[name]
            return module.GemmaConfig(d.width, d.layers, d.mlp, d.heads, d.kv_heads, d.head_dim)

        with mock.patch.object(module, "get_gemma_config", variant), mock.patch.object(
                module, "PaliGemmaForConditionalGenerationWithPiGemma",
                tiny_vlm(module.PaliGemmaForConditionalGenerationWithPiGemma, c)):
            core = getattr(module, f"{family.upper()}Pytorch")(config)
        load_core(core, tensors, c)

    def run(x: Inputs, steps: int) -> Tensor:
        images, masks = list(x["images"].unbind(1)), list(x["image_mask"].unbind(1))
        state = (x["state"],) if family == "pi0" else ()
        return core.sample_actions(images, masks, x["ids"], x["id_mask"], *state, noise=x["noise"], num_steps=steps)

    def loss(x: Inputs, actions: Tensor, t: Tensor) -> Tensor:  # squared error of the flow, [B, H, A]
        images, masks = list(x["images"].unbind(1)), list(x["image_mask"].unbind(1))
        state = (x["state"],) if family == "pi0" else ()
        return core.forward(images, masks, x["ids"], x["id_mask"], *state, actions, x["noise"], t)

    run.loss = loss
    return run


def from_openpi(directory: Path):
    """openpi's PI0Pytorch, as LeRobot's tests vendor it (package `tests.policies…` of its checkout), with its f32 time grid."""
    import tests.policies.pi0_pi05.openpi_pytorch.gemma as gemma
    import tests.policies.pi0_pi05.openpi_pytorch.gemma_pytorch as gemma_pytorch
    import tests.policies.pi0_pi05.openpi_pytorch.pi0_pytorch as pi0_pytorch
    plain_mask()
    tensors = load_tensors(directory)
    c = read_config(directory, list(tensors))
    dims = {"gemma_2b": c.text, "gemma_300m": c.expert}

    def variant(name):
        d = dims[name]
        return SimpleNamespace(width=d.width, depth=d.layers, mlp_dim=d.mlp, num_heads=d.heads, num_kv_heads=d.kv_heads,
                               head_dim=d.head_dim)

    config = SimpleNamespace(action_dim=c.action_dim, action_horizon=c.horizon, paligemma_variant="gemma_2b",
                             action_expert_variant="gemma_300m", pi05=c.family == "pi05", dtype="float32",
                             pytorch_compile_mode=None)
    vlm = "PaliGemmaForConditionalGenerationWithPiGemma"
    with mock.patch.object(gemma, "get_config", variant), mock.patch.object(
            gemma_pytorch, vlm, tiny_vlm(getattr(gemma_pytorch, vlm), c)):
        core = load_core(pi0_pytorch.PI0Pytorch(config), tensors, c)
    torch.set_float32_matmul_precision("highest")  # its constructor lowers it
    core._preprocess_observation = lambda x, train: (
        list(x["images"].unbind(1)), list(x["image_mask"].unbind(1)), x["ids"], x["id_mask"], x["state"])

    def run(x: Inputs, steps: int) -> Tensor:
        return core.sample_actions("cpu", Observation(x), noise=x["noise"], num_steps=steps)

    return run


class Observation(dict):
    state = property(lambda self: self["state"])


def from_transformers(directory: Path):
    """transformers' PI0ForConditionalGeneration (pi0 only). Prompt: one image token per patch, then the text."""
    from transformers import PI0Config, PI0ForConditionalGeneration
    raw = json.loads((directory / "config.json").read_text())
    if raw.get("model_type") == "pi0":
        model = PI0ForConditionalGeneration.from_pretrained(directory, torch_dtype=torch.float32).eval()
    else:  # a LeRobot or openpi directory: the same weights under transformers' names
        tensors = load_tensors(directory)
        c = read_config(directory, list(tensors))
        model = PI0ForConditionalGeneration(PI0Config(
            vlm_config=raw["vlm_config"], dit_config=raw["dit_config"], chunk_size=c.horizon, max_state_dim=c.state_dim,
            max_action_dim=c.action_dim, num_inference_steps=c.num_steps, min_period=c.min_period, max_period=c.max_period))
        names = {layout_names(k, "transformers")[0]: v for k, v in canonical_names(tensors, False).items()}
        missing, unexpected = model.eval().load_state_dict(names, strict=False)
        assert not unexpected and missing == ["model.dit.embed_tokens.weight"], (missing, unexpected)
    token = model.config.vlm_config.image_token_id
    vision = model.config.vlm_config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2

    def run(x: Inputs, steps: int) -> Tensor:
        rows = []
        for b in range(x["ids"].shape[0]):  # absent cameras are dropped, so rows may differ in length
            seen = x["image_mask"][b]
            n = int(seen.sum()) * patches
            ids = torch.cat([torch.full((n,), token), x["ids"][b]])[None]
            mask = torch.cat([torch.ones(n, dtype=torch.bool), x["id_mask"][b]])[None]
            images = x["images"][b][seen][None]
            rows.append(model.sample_actions(state=x["state"][b:b + 1], input_ids=ids, pixel_values=images,
                                             noise=x["noise"][b:b + 1], attention_mask=mask.long(),
                                             pixel_attention_mask=torch.ones(images.shape[:2], dtype=torch.bool),
                                             num_steps=steps))
        return torch.cat(rows)

    return run


SOURCES = {"reference": from_reference, "lerobot": from_lerobot, "openpi": from_openpi, "transformers": from_transformers}
GRIDS = {"openpi": "accumulate"}


def record(directory: Path, out: Path, source: str, inputs: Inputs, num_steps: int, run=None, **metadata: str) -> Tensor:
    run = run or SOURCES[source](directory)
    with torch.no_grad():
        actions = run(inputs, num_steps)
    c = read_config(directory, list(load_tensors(directory)))
    grid = c.time_grid if source == "reference" else GRIDS.get(source, "multiply")
    write_case(out, **{k: v[0] for k, v in inputs.items()}, actions=actions[0], family=c.family, source=source,
               num_steps=num_steps, time_grid=grid, **metadata)
    return actions


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("checkpoint", type=Path)
    p.add_argument("out", type=Path)
    p.add_argument("--from", dest="source", choices=SOURCES, default="reference")
    p.add_argument("--inputs", type=Path, help="take the observation from this case file")
    p.add_argument("--views", type=int, default=3)
    p.add_argument("--absent", type=int, nargs="*", default=[], help="cameras that are masked out, from 0")
    p.add_argument("--prompt-tokens", default="12,20", help="valid,padded length of the random prompt")
    p.add_argument("--num-steps", type=int, help="denoising steps (default: the checkpoint's)")
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    c = read_config(a.checkpoint, list(load_tensors(a.checkpoint)))
    if a.inputs:
        inputs = {k: v for k, v in read_case(a.inputs).items() if k != "actions"}
    else:
        valid, padded = (int(n) for n in a.prompt_tokens.split(","))
        inputs = random_inputs(c, a.views, a.absent, valid, padded, a.seed)
    actions = record(a.checkpoint, a.out, a.source, inputs, a.num_steps or c.num_steps)
    print(f"{a.out}: {tuple(actions.shape)} actions, |max| {actions.abs().max():.4f}", file=sys.stderr)


if __name__ == "__main__":
    main()
