"""Pi0 and Pi0.5 in plain PyTorch: inference, the flow-matching loss, any dimensions, LeRobot's tensor names.

An implementation of its own, written from the published equations. `policy_check.py` proves it equal to LeRobot, openpi and
transformers; it then records golden cases (`record_policy_case.py`) and is the model that examples/tabletop/train trains.
Shapes: B batch, V views, P patches of one view, T prompt tokens, S = V·P + T prefix tokens, H action tokens.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class BlockDims:
    width: int
    layers: int
    mlp: int
    heads: int
    kv_heads: int
    head_dim: int


@dataclass
class PolicyConfig:
    family: str  # "pi0" | "pi05"
    vision: BlockDims
    text: BlockDims
    expert: BlockDims
    image_size: int = 224
    patch_size: int = 14
    vocab: int = 257152
    horizon: int = 50
    action_dim: int = 32
    state_dim: int = 32
    num_steps: int = 10
    max_prompt: int = 200
    min_period: float = 4e-3
    max_period: float = 4.0
    # How the sampler walks from t = 1 to 0: "multiply" is 1 + k·dt in f64 (LeRobot, transformers);
    # "accumulate" adds dt in f32 (openpi). Fast time channels see the difference.
    time_grid: str = "multiply"
    time_f64: bool = True  # sin/cos arguments in f64 (openpi, LeRobot) or f32 (transformers)
    extra: dict = field(default_factory=dict)  # the rest of config.json, kept as it was


class VisionAttention(nn.Module):
    def __init__(self, d: BlockDims):
        super().__init__()
        self.heads = d.heads
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, nn.Linear(d.width, d.width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(f(x), self.heads) for f in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(merge_heads(attend(q, k, v)))


class VisionLayer(nn.Module):
    """Pre-LayerNorm transformer block with tanh-GELU (SigLIP)."""

    def __init__(self, d: BlockDims):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(d.width, eps=1e-6)
        self.self_attn = VisionAttention(d)
        self.layer_norm2 = nn.LayerNorm(d.width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(d.width, d.mlp), "fc2": nn.Linear(d.mlp, d.width)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.layer_norm2(x)), approximate="tanh"))


class VisionTower(nn.Module):
    def __init__(self, c: PolicyConfig):
        super().__init__()
        d, patches = c.vision, (c.image_size // c.patch_size) ** 2
        self.embeddings = nn.ModuleDict({
            "patch_embedding": nn.Conv2d(3, d.width, c.patch_size, c.patch_size),
            "position_embedding": nn.Embedding(patches, d.width),
        })
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(VisionLayer(d) for _ in range(d.layers))})
        self.post_layernorm = nn.LayerNorm(d.width, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:  # [n, 3, s, s] -> [n, P, width]
        x = self.embeddings.patch_embedding(images).flatten(2).transpose(1, 2)
        x = x + self.embeddings.position_embedding.weight
        for layer in self.encoder.layers:
            x = layer(x)
        return self.post_layernorm(x)


class Norm(nn.Module):
    """RMSNorm · (1 + w), or with a condition adaRMS: · (1 + scale) + shift, and a gate for the branch that follows."""

    def __init__(self, width: int, adaptive: bool):
        super().__init__()
        if adaptive:
            self.dense = nn.Linear(width, 3 * width)
        else:
            self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor | None]:
        wide = x if x.dtype == torch.float64 else x.float()
        y = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)
        if cond is None:
            return (y * (1 + self.weight)).to(x.dtype), None
        scale, shift, gate = self.dense(cond).unsqueeze(-2).chunk(3, dim=-1)
        return (y * (1 + scale) + shift).to(x.dtype), gate.to(x.dtype)


class GemmaAttention(nn.Module):
    def __init__(self, d: BlockDims):
        super().__init__()
        self.d = d
        self.q_proj = nn.Linear(d.width, d.heads * d.head_dim, bias=False)
        self.k_proj = nn.Linear(d.width, d.kv_heads * d.head_dim, bias=False)
        self.v_proj = nn.Linear(d.width, d.kv_heads * d.head_dim, bias=False)
        self.o_proj = nn.Linear(d.heads * d.head_dim, d.width, bias=False)

    def key_value(self, h: Tensor, rope) -> tuple[Tensor, Tensor]:  # each [B, kv_heads, n, head_dim]
        return rotate(split_heads(self.k_proj(h), self.d.kv_heads), rope), split_heads(self.v_proj(h), self.d.kv_heads)

    def forward(self, h: Tensor, k: Tensor, v: Tensor, mask: Tensor, rope) -> Tensor:
        q = rotate(split_heads(self.q_proj(h), self.d.heads), rope)
        return self.o_proj(merge_heads(attend(q, k, v, mask)))


class GemmaLayer(nn.Module):
    def __init__(self, d: BlockDims, adaptive: bool):
        super().__init__()
        self.input_layernorm = Norm(d.width, adaptive)
        self.self_attn = GemmaAttention(d)
        self.post_attention_layernorm = Norm(d.width, adaptive)
        self.mlp = nn.ModuleDict({
            "gate_proj": nn.Linear(d.width, d.mlp, bias=False),
            "up_proj": nn.Linear(d.width, d.mlp, bias=False),
            "down_proj": nn.Linear(d.mlp, d.width, bias=False),
        })

    def forward(self, x: Tensor, h: Tensor, gate, k: Tensor, v: Tensor, mask: Tensor, rope, cond=None) -> Tensor:
        x = x + gated(self.self_attn(h, k, v, mask, rope), gate)
        h, gate = self.post_attention_layernorm(x, cond)
        m = self.mlp
        return x + gated(m.down_proj(F.gelu(m.gate_proj(h), approximate="tanh") * m.up_proj(h)), gate)


class GemmaStack(nn.Module):
    def __init__(self, d: BlockDims, adaptive: bool, vocab: int = 0):
        super().__init__()
        if vocab:
            self.embed_tokens = nn.Embedding(vocab, d.width)
        self.layers = nn.ModuleList(GemmaLayer(d, adaptive) for _ in range(d.layers))
        self.norm = Norm(d.width, adaptive)


class Policy(nn.Module):
    """Both families. The state_dict has LeRobot's names (transformers >= 5.6 style, embedding under embed_tokens)."""

    def __init__(self, c: PolicyConfig):
        super().__init__()
        assert (c.text.layers, c.text.heads, c.text.kv_heads, c.text.head_dim) == \
            (c.expert.layers, c.expert.heads, c.expert.kv_heads, c.expert.head_dim), "prefix and expert share attention"
        self.c = c
        self.pi05 = c.family == "pi05"
        self.paligemma_with_expert = nn.ModuleDict({
            "paligemma": nn.ModuleDict({"model": nn.ModuleDict({
                "vision_tower": VisionTower(c),
                "multi_modal_projector": nn.ModuleDict({"linear": nn.Linear(c.vision.width, c.text.width)}),
                "language_model": GemmaStack(c.text, adaptive=False, vocab=c.vocab),
            })}),
            "gemma_expert": nn.ModuleDict({"model": GemmaStack(c.expert, adaptive=self.pi05)}),
        })
        w = c.expert.width
        self.action_in_proj = nn.Linear(c.action_dim, w)
        self.action_out_proj = nn.Linear(w, c.action_dim)
        if self.pi05:
            self.time_mlp_in, self.time_mlp_out = nn.Linear(w, w), nn.Linear(w, w)
        else:
            self.state_proj = nn.Linear(c.state_dim, w)
            self.action_time_mlp_in, self.action_time_mlp_out = nn.Linear(2 * w, w), nn.Linear(w, w)

    @property
    def vlm(self):
        return self.paligemma_with_expert.paligemma.model

    @property
    def expert(self) -> GemmaStack:
        return self.paligemma_with_expert.gemma_expert.model

    def embed_prefix(self, images: Tensor, image_mask: Tensor, ids: Tensor, id_mask: Tensor) -> tuple[Tensor, Tensor]:
        """images [B,V,3,s,s], masks bool [B,V] and [B,T] -> embeddings [B,S,width], validity [B,S]."""
        b, v = images.shape[:2]
        seen = self.vlm.multi_modal_projector.linear(self.vlm.vision_tower(images.flatten(0, 1)))
        words = self.vlm.language_model.embed_tokens(ids) * math.sqrt(self.c.text.width)
        valid = torch.cat([image_mask.repeat_interleave(seen.shape[1], dim=1), id_mask], dim=1)
        return torch.cat([seen.reshape(b, v * seen.shape[1], -1), words.to(seen.dtype)], dim=1), valid

    def prefix_cache(self, images, image_mask, ids, id_mask) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Keys and values of every prefix layer. The last layer's attention and MLP reach nothing and are left out."""
        x, valid = self.embed_prefix(images, image_mask, ids, id_mask)
        rope = rope_table(valid.cumsum(1) - 1, self.c.text.head_dim, torch.promote_types(x.dtype, torch.float32))
        mask, cache, layers = valid[:, None, None, :], [], self.vlm.language_model.layers
        for i, layer in enumerate(layers):
            h, _ = layer.input_layernorm(x, None)
            cache.append(layer.self_attn.key_value(h, rope))
            if i + 1 < len(layers):
                x = layer(x, h, None, *cache[-1], mask, rope)
        return cache, valid

    def embed_suffix(self, state: Tensor | None, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor | None]:
        """-> tokens [B, H (+1 for pi0's state), width], adaRMS condition [B, width] or None."""
        c, dtype = self.c, x_t.dtype
        temb = time_embedding(t, c.expert.width, c.min_period, c.max_period, c.time_f64).to(dtype)
        a = self.action_in_proj(x_t)
        if self.pi05:
            return a, F.silu(self.time_mlp_out(F.silu(self.time_mlp_in(temb))))
        u = torch.cat([a, temb[:, None].expand(*a.shape[:2], -1).to(a.dtype)], dim=-1)
        tokens = self.action_time_mlp_out(F.silu(self.action_time_mlp_in(u)))
        return torch.cat([self.state_proj(state)[:, None], tokens], dim=1), None

    def velocity(self, cache, valid: Tensor, state: Tensor | None, x_t: Tensor, t: Tensor) -> Tensor:
        """One evaluation of the flow field v(x_t, t) given the prefix. x_t [B,H,A], t [B] -> [B,H,A]."""
        x, cond = self.embed_suffix(state, x_t, t)
        n = x.shape[1]
        pos = valid.sum(1, keepdim=True) + torch.arange(n, device=x.device)
        rope = rope_table(pos, self.c.expert.head_dim, torch.promote_types(x.dtype, torch.float32))
        own = torch.ones(n, n, dtype=torch.bool, device=x.device)
        if not self.pi05:
            own[0, 1:] = False  # the state token sees the prefix and itself, the actions see everything
        mask = torch.cat([valid[:, None].expand(-1, n, -1), own.expand(x.shape[0], n, n)], dim=2)[:, None]
        for layer, (pk, pv) in zip(self.expert.layers, cache):
            h, gate = layer.input_layernorm(x, cond)
            k, v = layer.self_attn.key_value(h, rope)
            x = layer(x, h, gate, torch.cat([pk, k], dim=2), torch.cat([pv, v], dim=2), mask, rope, cond)
        x, _ = self.expert.norm(x, cond)
        return self.action_out_proj(x[:, -self.c.horizon:])

    @torch.no_grad()
    def sample_actions(self, images, image_mask, ids, id_mask, state, noise, num_steps: int | None = None) -> Tensor:
        cache, valid = self.prefix_cache(images, image_mask, ids, id_mask)
        x = noise
        for t, dt in time_grid(num_steps or self.c.num_steps, self.c.time_grid):
            x = x + dt * self.velocity(cache, valid, state, x, torch.full((x.shape[0],), t, device=x.device))
        return x

    def loss(self, images, image_mask, ids, id_mask, state, actions, noise, t, repeats: int = 1) -> Tensor:
        """Flow matching: x_t = t·noise + (1 - t)·action, target noise - action; squared error [B·repeats, H, A].

        `actions`, `noise` and `t` hold `repeats` draws per observation (row b·repeats + r), which share one prefix.
        """
        cache, valid = self.prefix_cache(images, image_mask, ids, id_mask)
        if repeats > 1:
            cache = [tuple(z.repeat_interleave(repeats, dim=0) for z in kv) for kv in cache]
            valid = valid.repeat_interleave(repeats, dim=0)
            state = None if state is None else state.repeat_interleave(repeats, dim=0)
        x_t = t[:, None, None] * noise + (1 - t[:, None, None]) * actions
        v = self.velocity(cache, valid, state, x_t, t)
        return (v.float() - (noise - actions)).square()


def split_heads(x: Tensor, heads: int) -> Tensor:  # [B, n, heads·d] -> [B, heads, n, d]
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q·kᵀ/√d)·v; each KV head serves heads/kv_heads query heads in a row."""
    group = q.shape[1] // k.shape[1]
    if group > 1:
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    return F.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype), attn_mask=mask)


def gated(branch: Tensor, gate: Tensor | None) -> Tensor:
    return branch if gate is None else branch * gate


def rope_table(pos: Tensor, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin of pos·10000^(-2i/d), each [B, 1, n, d/2]."""
    freq = 10000.0 ** (-torch.arange(0, head_dim, 2, device=pos.device, dtype=dtype) / head_dim)
    angle = pos[:, None, :, None].to(dtype) * freq
    return angle.cos(), angle.sin()


def rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Half-split rotation: channel i pairs with channel i + d/2."""
    cos, sin = rope
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


def time_embedding(t: Tensor, width: int, min_period: float, max_period: float, f64: bool) -> Tensor:
    """[sin | cos] of 2π·t/period with periods geometric from min to max; t [B] -> [B, width]."""
    frac = torch.linspace(0.0, 1.0, width // 2, dtype=torch.float64 if f64 else torch.float32, device=t.device)
    angle = t[:, None] * (1.0 / (min_period * (max_period / min_period) ** frac) * 2 * math.pi)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def time_grid(steps: int, kind: str) -> list[tuple[float, float]]:
    """(t, dt) of every Euler step; see PolicyConfig.time_grid."""
    dt = -1.0 / steps
    if kind == "multiply":
        return [(1.0 + k * dt, dt) for k in range(steps)]
    dt32, t, grid = torch.tensor(dt, dtype=torch.float32), torch.tensor(1.0), []
    while t >= -dt32 / 2:
        grid.append((t.item(), dt32.item()))
        t = t + dt32
    return grid


def sample_time(n: int, device, generator: torch.Generator | None = None) -> Tensor:
    """t ~ 0.999·Beta(1.5, 1) + 0.001. Beta(a, 1) has the distribution function x^a, so t comes from a uniform draw."""
    u = torch.rand(n, device=device, generator=generator)
    return u.pow(1 / 1.5) * 0.999 + 0.001
