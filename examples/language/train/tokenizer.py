"""Trains the language model's tokenizer.json: byte-level BPE, digits one by one, on documents of corpus.py.

    python tokenizer.py OUT.json
"""

import random
import sys

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import corpus

VOCABULARY = 1024
SPECIAL = [corpus.BEGIN, corpus.END, *corpus.ROLES.values()]   # ids 0 to 4
PIECES = r"'(?:s|t|re|ve|m|ll|d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def train():
    r = random.Random(1)
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PIECES), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator((corpus.document(r) for _ in range(20000)), trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    t.post_processor = processors.TemplateProcessing(single=f"{corpus.BEGIN} $A", special_tokens=[(corpus.BEGIN, 0)])
    return t


if __name__ == "__main__":
    tokenizer = train()
    tokenizer.save(sys.argv[1])
    sample = [corpus.document(random.Random(i)) for i in range(1000)]
    ids = [e.ids for e in tokenizer.encode_batch(sample, add_special_tokens=False)]
    assert all(tokenizer.decode(i, skip_special_tokens=False) == s for i, s in zip(ids, sample))
    print(f"{tokenizer.get_vocab_size()} tokens; {sum(map(len, sample)) / sum(map(len, ids)):.2f} characters a token, "
          f"longest document {max(map(len, ids))}")
