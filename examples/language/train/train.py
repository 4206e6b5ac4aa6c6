"""Trains the small language model and writes a checkpoint directory in the layout of Hugging Face.

    python train.py --out ../model            about 18 minutes on one idle core; needs torch, tokenizers, safetensors
    python train.py --steps 20 --out /tmp/x   the pipeline alone; the model learns nothing

Llama's block (rotary positions, grouped heads, gated MLP, RMS norm), in f32; weights are written in bf16.
"""

import argparse
import json
import math
import random
import shutil
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

import corpus

HERE = Path(__file__).resolve().parent
LAYERS, WIDTH, HEADS, KV_HEADS, HEAD_DIM, MLP, VOCABULARY, CONTEXT = 4, 128, 4, 2, 32, 352, 1024, 512
THETA, EPSILON = 10000.0, 1e-5

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": WIDTH,
    "intermediate_size": MLP, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM, "vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "rms_norm_eps": EPSILON,
    "rope_theta": THETA, "rope_scaling": None, "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False,
    "bos_token_id": 0, "eos_token_id": 1, "initializer_range": 0.02, "use_cache": True, "torch_dtype": "bfloat16"}
TEMPLATE = ("{{ bos_token }}{% for message in messages %}"
            "{% if message.role not in ['system', 'user', 'assistant'] %}"
            "{{ raise_exception('roles are system, user and assistant') }}{% endif %}"
            "<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
            "{% if add_generation_prompt %}<|assistant|>{% endif %}")


def shapes():
    out = {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "model.norm.weight": (WIDTH,)}
    for i in range(LAYERS):
        name = f"model.layers.{i}."
        out |= {name + "input_layernorm.weight": (WIDTH,), name + "post_attention_layernorm.weight": (WIDTH,),
                name + "self_attn.q_proj.weight": (HEADS * HEAD_DIM, WIDTH), name + "self_attn.k_proj.weight": (KV_HEADS * HEAD_DIM, WIDTH),
                name + "self_attn.v_proj.weight": (KV_HEADS * HEAD_DIM, WIDTH), name + "self_attn.o_proj.weight": (WIDTH, HEADS * HEAD_DIM),
                name + "mlp.gate_proj.weight": (MLP, WIDTH), name + "mlp.up_proj.weight": (MLP, WIDTH), name + "mlp.down_proj.weight": (WIDTH, MLP)}
    return out


def initial():
    torch.manual_seed(0)
    weights = {}
    for name, shape in shapes().items():
        scale = 0.02 if "embed" in name else shape[-1] ** -0.5 / (math.sqrt(2 * LAYERS) if "o_proj" in name or "down" in name else 1)
        weights[name] = torch.nn.Parameter(torch.ones(shape) if len(shape) == 1 else torch.randn(shape) * scale)
    return weights


def rms_norm(x, weight):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON) * weight


def rotate(x, cos, sin):   # [batch, heads, tokens, head_dim]
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def forward(w, ids):   # [batch, tokens] → [batch, tokens, vocabulary]
    batch, tokens = ids.shape
    angle = torch.arange(tokens)[:, None] * THETA ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    cos, sin = angle.cos(), angle.sin()
    x = F.embedding(ids, w["model.embed_tokens.weight"])
    for i in range(LAYERS):
        p = {k.removeprefix(f"model.layers.{i}.").removesuffix(".weight"): v for k, v in w.items() if f"layers.{i}." in k}
        h = rms_norm(x, p["input_layernorm"])
        q, k, v = ((h @ p[f"self_attn.{n}_proj"].T).view(batch, tokens, -1, HEAD_DIM).transpose(1, 2) for n in "qkv")
        group = HEADS // KV_HEADS
        k, v = rotate(k, cos, sin).repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        a = F.scaled_dot_product_attention(rotate(q, cos, sin), k, v, is_causal=True)
        x = x + a.transpose(1, 2).reshape(batch, tokens, -1) @ p["self_attn.o_proj"].T
        h = rms_norm(x, p["post_attention_layernorm"])
        x = x + (F.silu(h @ p["mlp.gate_proj"].T) * (h @ p["mlp.up_proj"].T)) @ p["mlp.down_proj"].T
    return rms_norm(x, w["model.norm.weight"]) @ w["model.embed_tokens.weight"].T


class Muon:
    """Momentum whose matrices are made orthogonal before the step (Jordan et al. 2024): fewer steps than Adam needs."""

    def __init__(self, matrices, momentum=0.95, decay=0.05):
        self.matrices, self.momentum, self.decay = matrices, momentum, decay
        self.held = [torch.zeros_like(m) for m in matrices]

    @torch.no_grad()
    def step(self, rate):
        for m, held in zip(self.matrices, self.held):
            held.lerp_(m.grad, 1 - self.momentum)
            x = m.grad.lerp(held, self.momentum)
            wide = x.shape[0] > x.shape[1]
            x = (x.T if wide else x) / (x.norm() + 1e-7)
            for _ in range(5):   # a quintic that moves every singular value towards 1
                a = x @ x.T
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
            m.mul_(1 - rate * self.decay).add_(x.T if wide else x, alpha=-rate * max(1, m.shape[0] / m.shape[1]) ** 0.5)


class Batches:
    """Documents end to end, cut into rows of CONTEXT + 1 tokens; the weight of each token in the loss beside them."""

    def __init__(self, tokenizer, batch, seed, user_weight):
        self.tokenizer, self.batch, self.random, self.user_weight = tokenizer, batch, random.Random(seed), user_weight
        self.ids, self.weights = [], []
        self.role = {tokenizer.token_to_id(t): t for t in (corpus.END, corpus.BEGIN, *corpus.ROLES.values())}

    def grow(self):
        documents = [corpus.document(self.random) for _ in range(256)]
        for e in self.tokenizer.encode_batch(documents, add_special_tokens=False):
            weight = 1.0
            for i in e.ids:
                self.ids.append(i)
                self.weights.append(weight)
                if i in self.role:
                    weight = self.user_weight if self.role[i] in (corpus.ROLES["user"], corpus.ROLES["system"]) else 1.0

    def next(self):
        count = self.batch * (CONTEXT + 1)
        while len(self.ids) < count:
            self.grow()
        ids = torch.tensor(self.ids[:count]).view(self.batch, -1)
        weights = torch.tensor(self.weights[:count]).view(self.batch, -1)
        del self.ids[:count], self.weights[:count]
        return ids, weights


@torch.no_grad()
def answers(w, tokenizer, prompt, limit=40):
    ids = tokenizer.encode(prompt, add_special_tokens=False).ids
    begin = len(ids)
    while len(ids) < begin + limit:
        best = int(forward(w, torch.tensor([ids]))[0, -1].argmax())
        if best == 1:
            break
        ids.append(best)
    return tokenizer.decode(ids[begin:])


@torch.no_grad()
def evaluate(w, tokenizer, directory):
    """Held-out perplexity in rows of the context, and the share of correct answers by family."""
    ids = tokenizer.encode((directory / "text.txt").read_text()).ids
    loss = sum(F.cross_entropy(forward(w, torch.tensor([row[:-1]]))[0], torch.tensor(row[1:]), reduction="sum").item()
               for i in range(0, len(ids) - 1, CONTEXT) for row in [ids[i:i + CONTEXT + 1]])
    right, failed = {}, []
    for line in (directory / "questions.jsonl").read_text().splitlines():
        q = json.loads(line)
        got = answers(w, tokenizer, corpus.chat_text([("user", q["user"])]) + corpus.ROLES["assistant"])
        right.setdefault(q["family"], []).append(got == q["answer"])
        if got != q["answer"]:
            failed.append((q["user"], got))
    return {"held_out_perplexity": round(math.exp(loss / (len(ids) - 1)), 4),
            "right": {k: f"{sum(v)}/{len(v)}" for k, v in right.items()}, "failed": failed}


def save(w, out):
    out.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().to(torch.bfloat16).contiguous() for k, v in w.items()}, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    (out / "generation_config.json").write_text(json.dumps({"bos_token_id": 0, "eos_token_id": 1}, indent=1) + "\n")
    (out / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": corpus.BEGIN, "eos_token": corpus.END,
        "clean_up_tokenization_spaces": False, "model_max_length": CONTEXT, "chat_template": TEMPLATE}, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, default=HERE.parent / "model" / "tokenizer.json")
    parser.add_argument("--held-out", type=Path, default=HERE.parent / "held_out")
    parser.add_argument("--steps", type=int, default=3500)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=1e9, help="ends, and slows down, as if these were all the steps")
    parser.add_argument("--begin", type=Path, help="a checkpoint to go on from")
    parser.add_argument("--seed", type=int, default=0, help="of the documents; another one when going on")
    parser.add_argument("--user-weight", type=float, default=0.3, help="of the loss on what users say: most of it is chance")
    parser.add_argument("--rate", type=float, default=3e-3)
    o = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(str(o.tokenizer))
    w, batches, began, log = initial(), Batches(tokenizer, o.batch, o.seed, o.user_weight), time.time(), []
    if o.begin:
        stored = load_file(o.begin / "model.safetensors")
        w = {name: torch.nn.Parameter(stored[name].float()) for name in w}
        log = [json.loads(line) for line in (o.begin / "train.jsonl").read_text().splitlines()]
    matrices = [v for k, v in w.items() if v.dim() > 1 and "embed" not in k]
    rest = [v for k, v in w.items() if v.dim() == 1 or "embed" in k]
    muon = Muon(matrices)
    adam = torch.optim.AdamW(rest, lr=o.rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    total = 0.0
    for step in range(o.steps):
        done = max(step / o.steps, (time.time() - began) / (60 * o.minutes))
        if done >= 1:
            break
        share = min((step + 1) / 50, 1) * min((1 - done) / 0.5, 1)   # up, level, down to 0
        adam.param_groups[0]["lr"] = o.rate * share
        ids, weights = batches.next()
        each = F.cross_entropy(forward(w, ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        weights = weights[:, 1:].flatten()
        loss = (each * weights).sum() / weights.sum()
        for parameter in w.values():
            parameter.grad = None
        loss.backward()
        adam.step()
        muon.step(0.02 * share)
        total += loss.item()
        if (step + 1) % 100 == 0:
            log.append({"step": step + 1, "loss": round(total / 100, 4), "seconds": round(time.time() - began)})
            print(json.dumps(log[-1]), flush=True)
            total = 0.0
        if (step + 1) % 500 == 0:
            save(w, o.out)
    save(w, o.out)
    if o.tokenizer.resolve() != (o.out / "tokenizer.json").resolve():
        shutil.copy(o.tokenizer, o.out / "tokenizer.json")
    stored = {k: v.detach().to(torch.bfloat16).float() for k, v in w.items()}
    result = evaluate(stored, tokenizer, o.held_out)
    log.append({"parameters": sum(v.numel() for v in w.values()), **{k: v for k, v in result.items() if k != "failed"}})
    (o.out / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    print(json.dumps(log[-1], indent=1))
    for question, got in result["failed"]:
        print(f"wrong: {question} → {got}")


if __name__ == "__main__":
    main()
