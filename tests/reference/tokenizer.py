"""Trains the tiny tokenizers of tests/data/tokenizer, records golden encodings, and compares at large.

    tokenizer.py train                     write the tokenizer files (sentencepiece, tokenizers)
    tokenizer.py golden                    write golden.json: texts, ids and decoded texts per file
    tokenizer.py compare PROGRAM [COUNT]   random Unicode texts through PROGRAM (tokenizer_dump) and the reference
    tokenizer.py classes PROGRAM           every code point through the regular expressions of byte-level BPE

Needs: sentencepiece 0.2.3, tokenizers 0.23.3.
"""
import io
import json
import pathlib
import random
import struct
import subprocess
import sys

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "tokenizer"

SENTENCES = """pick up the red cube and place it in the blue bowl
open the top drawer and put the black bowl inside
Task: fold the towel, State: 12 255 0 -1 128 64 32 7;
Action: move the left arm 3.5 cm towards the mug, then close the gripper
turn on the stove; push the plate to the front of the stove
The quick brown fox jumps over the lazy dog. THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG!
def main(argv):    return [x ** 2 for x in range(10) if x % 2 == 0]
I'm sure they've said we'll go, but you're late and she'd rather stay; it's John's.
Der schnelle braune Fuchs springt über den faulen Hund, während die Bäume rauschen.
El robot recoge la taza roja y la coloca sobre la mesa. ¿Dónde está la niña?
Le petit garçon a mangé une crêpe près de la forêt où naît l'été.
Быстрая коричневая лиса прыгает через ленивую собаку. Робот берёт красный куб.
机器人拿起红色的方块，把它放进蓝色的碗里。打开上面的抽屉。
ロボットは赤いカップをテーブルの上に置きました。ありがとうございます。
로봇이 빨간 컵을 들어 파란 그릇에 넣습니다. 서랍을 여세요.
الروبوت يلتقط المكعب الأحمر ويضعه في الوعاء الأزرق
הרובוט מרים את הקובייה האדומה ושם אותה בקערה
रोबोट लाल घन उठाता है और नीले कटोरे में रखता है
0 1 2 3 4 5 6 7 8 9 10 11 12 100 200 255 256 1000 1024 3.14159 2026-01-01 12:34:56
{"name": "flash", "value": [1, 2.5, null, true], "path": "/usr/local/bin"}
Größe naïve façade coöperate Ångström résumé Zürich 😀 😃 🤖 👍 → ← ≤ ≥ ± × ÷
""".splitlines()


def corpus():
    rng = random.Random(7)
    lines = []
    for _ in range(400):
        words = rng.choice(SENTENCES).split(" ") + rng.choice(SENTENCES).split(" ")
        rng.shuffle(words)
        lines.append(" ".join(words))
    return SENTENCES * 20 + lines


# --- SentencePiece -----------------------------------------------------------------------------------------------
def train_sentencepiece(name, **options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_writer=model, model_type="bpe", normalization_rule_name="identity",
        num_threads=1, minloglevel=2, **options)
    (DATA / f"{name}.model").write_bytes(model.getvalue())


def extract(name):
    """Pieces, scores and BPE merges of a model: every split of a piece into two known pieces, by score."""
    sp = sentencepiece.SentencePieceProcessor(model_file=str(DATA / f"{name}.model"))
    pieces = [sp.id_to_piece(i) for i in range(sp.vocab_size())]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    merges = []
    for piece, i in vocab.items():
        local = [(piece[:k], piece[k:]) for k in range(1, len(piece)) if piece[:k] in vocab and piece[k:] in vocab]
        merges += [(*pair, sp.get_score(i)) for pair in sorted(local, key=lambda p: (vocab[p[0]], vocab[p[1]]))]
    merges.sort(key=lambda m: m[2], reverse=True)
    return sp, vocab, [(a, b) for a, b, _ in merges]


def json_from(name, prefix_space):
    sp, vocab, merges = extract(name)
    tok = tokenizers.Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    steps = [normalizers.Prepend("▁")] if prefix_space else []
    tok.normalizer = normalizers.Sequence(steps + [normalizers.Replace(" ", "▁")])
    tok.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        + ([decoders.Strip(" ", 1, 0)] if prefix_space else []))
    tok.add_special_tokens([sp.id_to_piece(i) for i in range(sp.vocab_size()) if sp.is_control(i) or sp.is_unknown(i)])
    user = [sp.id_to_piece(i) for i in range(4, 4 + 40) if sp.get_score(i) == 0.0 and not sp.is_byte(i)]
    tok.add_tokens([AddedToken(piece, normalized=False) for piece in user])
    tok.post_processor = processors.TemplateProcessing("<bos> $A" if "<bos>" in vocab else "<s> $A", None,
        [(t, vocab[t]) for t in ("<bos>", "<s>") if t in vocab])
    save(tok, f"{name}.json")


def save(tok, name):
    # Compact: the pretty form is several times larger.
    (DATA / name).write_text(json.dumps(json.loads(tok.to_str()), ensure_ascii=False, separators=(",", ":")) + "\n")


def train_flags():
    """A byte-fallback-free BPE with NFC, Metaspace and added tokens of every flag."""
    tok = tokenizers.Tokenizer(models.BPE(unk_token="[UNK]", fuse_unk=False))
    tok.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace("ß", "ss")])
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="first"), pre_tokenizers.Digits(individual_digits=True)])
    tok.decoder = decoders.Metaspace(prepend_scheme="first")
    tok.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=500, special_tokens=["[UNK]", "[PAD]"], show_progress=False, limit_alphabet=120))
    tok.add_special_tokens([AddedToken("<|left|>", lstrip=True), AddedToken("<|right|>", rstrip=True),
                            AddedToken("<|both|>", lstrip=True, rstrip=True)])
    tok.add_tokens([AddedToken("cube", single_word=True), AddedToken("naïve", normalized=True),
                    AddedToken("dra", normalized=False), AddedToken("drawers", normalized=False)])
    save(tok, "flags.json")


WORDS_REGEX = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def train_byte_level(name, pre_tokenizer, special, normalizer=None, ignore_merges=False, post_processor=None):
    tok = tokenizers.Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = pre_tokenizer
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=700, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    if ignore_merges:   # whole words that merges alone do not reach, as in Llama 3's vocabulary
        model = json.loads(tok.to_str())
        for word in ("gripper", "\u0120drawer", "\u0120coffee"):
            model["model"]["vocab"].setdefault(word, len(model["model"]["vocab"]))
        tok = tokenizers.Tokenizer.from_str(json.dumps(model))
    tok.add_special_tokens(special)
    if post_processor:
        tok.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
            f"{post_processor} $A", None, [(post_processor, tok.token_to_id(post_processor))])])
    save(tok, f"{name}.json")


def train_byte_levels():
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = lambda digits: pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(WORDS_REGEX % digits), behavior="isolated"), byte_level])
    train_byte_level("byte_gpt2", pre_tokenizers.ByteLevel(add_prefix_space=False), ["<|endoftext|>"])
    train_byte_level("byte_llama3", words("{1,3}"), ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"],
                     ignore_merges=True, post_processor="<|begin_of_text|>")
    train_byte_level("byte_qwen", words(""), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], normalizer=normalizers.NFC())


def train():
    DATA.mkdir(parents=True, exist_ok=True)
    newlines = ["\n" * i for i in range(1, 8)]
    spaces = ["▁" * i for i in range(2, 8)]
    train_sentencepiece("gemma_like", vocab_size=900, byte_fallback=True, add_dummy_prefix=False,
                        remove_extra_whitespaces=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>",
                        bos_piece="<bos>", eos_piece="<eos>", character_coverage=0.985,
                        user_defined_symbols=newlines + spaces + [f"<loc{i:04}>" for i in range(8)])
    train_sentencepiece("llama_like", vocab_size=800, byte_fallback=True, add_dummy_prefix=True,
                        remove_extra_whitespaces=False, character_coverage=0.985)
    train_sentencepiece("plain", vocab_size=500, byte_fallback=False, add_dummy_prefix=True,
                        remove_extra_whitespaces=True, character_coverage=0.985, pad_id=3,
                        user_defined_symbols=["<tool>", "State:"])
    json_from("gemma_like", prefix_space=False)
    json_from("llama_like", prefix_space=True)
    train_flags()
    train_byte_levels()


# --- reference answers -------------------------------------------------------------------------------------------
class Reference:
    def __init__(self, path, special=False):
        self.sp = self.tok = None
        if path.suffix == ".model":
            self.sp = sentencepiece.SentencePieceProcessor(model_file=str(path))
        else:
            self.tok = tokenizers.Tokenizer.from_file(str(path))
            self.tok.encode_special_tokens = not special

    def encode(self, text):
        if self.sp:
            return self.sp.encode(text)
        return self.tok.encode(text, add_special_tokens=False).ids

    def decode(self, ids):
        return self.sp.decode(ids) if self.sp else self.tok.decode(ids, skip_special_tokens=True)


WORDS = sorted({w for s in SENTENCES for w in s.split(" ")})
SPECIALS = ["<bos>", "<eos>", "<s>", "</s>", "<unk>", "<pad>", "<loc0003>", "<loc0009>", "<0x0A>", "<tool>", "State:",
            "[UNK]", "<|left|>", "<|right|>", "<|both|>", "cube", "cubes", "naïve", "nai\u0308ve", "dra", "drawers",
            "<|endoftext|>", "<|im_start|>", "<|im_end|>", "ſ", "'S", "'ſ", "'LL", "I'M", "'\u212a"]
BLOCKS = [(0x20, 0x7e), (0x20, 0x7e), (0xa0, 0x17f), (0x300, 0x36f), (0x370, 0x3ff), (0x400, 0x4ff), (0x590, 0x5ff),
          (0x600, 0x6ff), (0x900, 0x97f), (0xe00, 0xe7f), (0x1100, 0x11ff), (0x1e00, 0x1eff), (0x2000, 0x206f),
          (0x2190, 0x21ff), (0x2460, 0x24ff), (0x2580, 0x259f), (0x3000, 0x30ff), (0x4e00, 0x4fff), (0xac00, 0xacff),
          (0xf900, 0xfaff), (0xfb00, 0xfb4f), (0xfe00, 0xfe0f), (0xff00, 0xffef), (0x1d400, 0x1d7ff),
          (0x1f300, 0x1f64f), (0x20000, 0x20100), (0x10fff0, 0x10ffff)]
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u2028", "\u3000", "▁", "▁▁", "\u200d", "\u0085", "\x0b", "이\u11a7",
          " " * 9, "\n" * 9]


def random_text(rng):
    parts = []
    for _ in range(rng.choice([1, 1, 2, 3, 5, 8, 13, 30])):
        kind = rng.random()
        if kind < 0.40:
            parts.append(rng.choice(WORDS))
        elif kind < 0.60:
            parts.append(rng.choice(SPACES))
        elif kind < 0.72:
            parts.append(rng.choice(SPECIALS))
        elif kind < 0.97:
            low, high = rng.choice(BLOCKS)
            parts.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 6))))
        elif kind < 0.98:
            parts.append(chr(rng.randint(0, 31)))
        else:
            parts.append(rng.choice("ab0 .\n😀é") * rng.randint(1, 40))
        if rng.random() < 0.35:
            parts.append(" ")
    return "".join(parts)


def golden():
    rng = random.Random(11)
    texts = ["", " ", "  ", "\n", "a", "▁", " a", "a ", "\0", "pick up the red cube", "Task: pick up, State: -1 255;\nAction: "]
    texts += [random_text(rng) for _ in range(50)]
    cases = {"texts": texts, "files": {}}
    for path in sorted(DATA.glob("*.model")) + sorted(DATA.glob("*_like.json")) + sorted(DATA.glob("flags*.json")) \
            + sorted(DATA.glob("byte_*.json")):
        for special in (False, True):
            if special and path.suffix == ".model":
                continue
            reference = Reference(path, special)
            ids = [reference.encode(t) for t in texts]
            cases["files"][path.name + (":special" if special else "")] = {
                "ids": ids, "decoded": [reference.decode(i) for i in ids]}
    (DATA / "golden.json").write_text(json.dumps(cases, ensure_ascii=False, separators=(",", ":")) + "\n")


def compare_file(program, path, special, texts):
    payload = b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in texts)
    out = subprocess.run([program, str(path), "special" if special else "plain"], input=payload,
                         stdout=subprocess.PIPE, check=True).stdout
    at, wrong = 0, 0
    reference = Reference(path, special)
    for text in texts:
        n, = struct.unpack_from("<I", out, at)
        ids = list(struct.unpack_from(f"<{n}i", out, at + 4))
        size, = struct.unpack_from("<I", out, at + 4 + 4 * n)
        back = out[at + 8 + 4 * n:at + 8 + 4 * n + size].decode()
        at += 8 + 4 * n + size
        expected = reference.encode(text)
        decoded = reference.decode(expected)
        if ids != expected or back != decoded:
            wrong += 1
            if wrong <= 3:
                print(repr(text), expected, ids, repr(decoded), repr(back), sep="\n    ")
    print(f"{path.name} {'special' if special else 'plain'}: {len(texts) - wrong} of {len(texts)} equal", flush=True)
    return wrong


def compare(program, count):
    total = 0
    for path in sorted(DATA.glob("*.model")) + [p for p in sorted(DATA.glob("*.json")) if p.name != "golden.json"]:
        for special in (False, True):
            if special and path.suffix == ".model":
                continue
            rng = random.Random(f"{path.name}{special}")
            total += compare_file(program, path, special, [random_text(rng) for _ in range(count)])
    return total


def classes(program):
    """Every code point between letters, digits and spaces, through vocabularies where any two neighbouring bytes of one
    word may merge: the ids then show where the regular expressions cut."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    code = [next(c for c in alphabet if decoders.ByteLevel().decode([c]).encode("latin-1", "replace") == b"%c" % b)
            for b in range(128)]
    high = [c for c in alphabet if c not in code]   # in the order of their bytes 0x80…0xff only up to a permutation: all pairs
    vocab, merges = {c: i for i, c in enumerate(alphabet)}, []
    plain = [code[ord(c)] for c in "a1 'sS\n"]
    for a in plain + high:
        for b in plain + high:
            if a in plain or b in plain:
                vocab.setdefault(a + b, len(vocab))
                merges.append((a, b))
    texts = [f"a{c} {c}{c}1{c}\n{c}a'{c}s" for c in map(chr, range(0x20000)) if not 0xd800 <= ord(c) < 0xe000]
    texts += [f"a{c}{m} {c}" for c in map(chr, range(0xa0, 0x2000)) for m in "\u0301\u0323\u3099"]
    total = 0
    for name in ("byte_gpt2", "byte_llama3", "byte_qwen"):
        model = json.loads((DATA / f"{name}.json").read_text())
        model["added_tokens"], model["post_processor"] = [], None
        model["model"].update(vocab=vocab, merges=merges, ignore_merges=False)
        path = pathlib.Path(f"/tmp/{name}_pairs.json")
        path.write_text(json.dumps(model))
        total += compare_file(program, path, False, texts)
    return total


if __name__ == "__main__":
    if sys.argv[1:] == ["train"]:
        train()
    elif sys.argv[1:] == ["golden"]:
        golden()
    elif sys.argv[1:2] == ["compare"]:
        sys.exit(compare(sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 100_000) != 0)
    elif sys.argv[1:2] == ["classes"]:
        sys.exit(classes(sys.argv[2]) != 0)
    else:
        sys.exit(__doc__)
