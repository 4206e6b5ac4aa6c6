#!/usr/bin/env python3
"""Makes tests/data/lm_perplexity.json: sliding-window perplexity by transformers, of random tokens and of a text.

    python lm_perplexity.py           # needs torch, transformers, tokenizers

`perplexity` scores every token that has one before it in its window, once. `documented` is what the snippet in transformers'
documentation gives: it counts a window with n labels as n − 1 for the shift, also where the token before them is in the window.
"""
import json
import math
from pathlib import Path

import torch
import transformers

ROOT = Path(__file__).resolve().parent.parent.parent
# model → windows: (context, stride)
RANDOM = {"llama_odd_heads": [(64, 64), (16, 16), (16, 8), (12, 3), (13, 5), (7, 1)], "mistral_window": [(32, 16), (9, 6)],
          "gpt2_odd_heads": [(64, 32), (10, 4)], "qwen3_experts": [(24, 12)]}
TOKENS = 61
TEXT = [(512, 256), (512, 512), (128, 32)]


def windows(count, context, stride):
    """(begin, end, tokens that the windows before it covered) of every window."""
    scored, begin = 0, 0
    while scored < count:
        end = min(begin + context, count)
        yield begin, end, scored
        scored, begin = end, begin + stride


@torch.no_grad()
def perplexity(model, ids, context, stride):
    total, tokens, documented, counted = 0.0, 0, 0.0, 0
    for begin, end, scored in windows(len(ids), context, stride):
        first = max(scored, begin + 1)   # a window's first token has nothing before it
        if first == end:
            continue
        logits = model(torch.tensor([ids[begin:end]])).logits[0].double()
        targets = torch.tensor(ids[first:end])
        nll = torch.nn.functional.cross_entropy(logits[first - 1 - begin:end - 1 - begin], targets, reduction="sum").item()
        total, tokens = total + nll, tokens + len(targets)
        labels = end - scored   # the snippet: mean loss · (labels − 1), though only a window's first label has no loss
        documented, counted = documented + nll / len(targets) * (labels - 1), counted + labels - 1
    return {"context": context, "stride": stride, "perplexity": math.exp(total / tokens), "nll": total, "scored": tokens,
            "documented": math.exp(documented / max(counted, 1))}


def load(path):
    eager = dict(experts_implementation="eager") if "experts" in path.name else {}
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager", **eager).eval()


def main():
    random, text = [], []
    for name, shapes in RANDOM.items():
        path = ROOT / "tests/data/lm" / name
        torch.manual_seed(len(random))
        ids = torch.randint(0, 61, (TOKENS,)).tolist()
        random.append({"model": name, "ids": ids, "runs": [perplexity(load(path), ids, *shape) for shape in shapes]})
    language = ROOT / "examples/language"
    tokenizer = transformers.AutoTokenizer.from_pretrained(language / "model")
    ids = tokenizer((language / "held_out/text.txt").read_text())["input_ids"]
    model = load(language / "model")
    text = {"tokens": len(ids), "runs": [perplexity(model, ids, *shape) for shape in TEXT]}
    (ROOT / "tests/data/lm_perplexity.json").write_text(json.dumps({"random": random, "text": text}, indent=1) + "\n")
    for run in [r for m in random for r in m["runs"]] + text["runs"]:
        print(run)


if __name__ == "__main__":
    main()
