"""Trains the demo's tokenizer.json: BPE with byte fallback in the form of PaliGemma's, on the tabletop's prompts.

    python tokenizer.py OUT.json
"""

import json
import random
import sys
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

PAD, EOS, BOS, UNK = 0, 1, 2, 3


def full_prompt(task: str, bins) -> str:
    """Pi0.5's template; bins are the digitised state."""
    return f"Task: {task}, State: {' '.join(str(int(b)) for b in bins)};\nAction: "


def digitise(normalised: np.ndarray) -> np.ndarray:
    """[-1, 1] -> 0…255 (256 edges from -1 in steps of 1/128), -1 below."""
    return np.digitize(normalised, np.linspace(-1, 1, 257)[:-1]) - 1


def train(tasks: list[str]) -> Tokenizer:
    """Pieces never cross a word, a number or a punctuation mark; every bin -1…255 becomes one piece."""
    rng = random.Random(0)
    texts = [full_prompt(t, [rng.randint(-1, 255) for _ in range(4)]) for t in tasks]
    texts += [" ".join(str(b) for b in range(-1, 256))] * 40 + [" -1"] * 400
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    tokens = special + [f"<0x{b:02X}>" for b in range(256)]
    t = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    t.normalizer = normalizers.Replace(" ", "▁")
    # Only for training: a word with its space, a number with its sign, anything else alone.
    t.pre_tokenizer = pre_tokenizers.Split(Regex("▁?[a-zA-Z]+|▁?-?[0-9]+|."), behavior="isolated")
    t.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=1400, min_frequency=2, special_tokens=tokens, show_progress=False,
        initial_alphabet=[chr(c) for c in range(33, 127)] + ["▁", "\n"]))
    raw = json.loads(t.to_str())
    raw["added_tokens"] = [a for a in raw["added_tokens"] if a["content"] in special]
    raw["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    raw["model"]["byte_fallback"], raw["model"]["fuse_unk"] = True, True
    t = Tokenizer.from_str(json.dumps(raw))
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    t.post_processor = processors.TemplateProcessing(single="<bos> $A", pair="<bos> $A <bos> $B",
                                                     special_tokens=[("<bos>", BOS)])
    return t


def tabletop_tasks(count: int = 20000) -> list[str]:
    import tabletop
    lib = tabletop.load(tabletop.build("/tmp/libtabletop.so"))
    world = tabletop.World(lib, 14)
    return [world.reset(tabletop.FIRST_TRAINING_SEED + s)[0] for s in range(count)]


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    tasks = tabletop_tasks()
    t = train(tasks)
    for b in range(-1, 256):
        ids = t.encode(f" {b}", add_special_tokens=False).ids
        assert len(ids) == 1, (b, t.encode(f" {b}").tokens)
    longest = max(len(t.encode(full_prompt(task, [0] * 4)).ids) for task in tasks)
    example = full_prompt("put the red cube in the blue zone", [12, 255, -1, 0])
    assert t.decode(t.encode(example).ids) == example, t.decode(t.encode(example).ids)
    t.save(sys.argv[1])
    print(f"{t.get_vocab_size()} pieces, longest prompt {longest} ids: {t.encode(example).tokens}")


if __name__ == "__main__":
    main()
