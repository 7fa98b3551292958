#!/usr/bin/env python3
"""Makes configs/mini/text/tokenizer.json: byte-level BPE of 1,000 tokens from the project's own pages.

    python3 scripts/make_tokenizer.py [FILE ...] [--size N] [--out FOLDER]

Needs the package tokenizers. The tokenizer is checked in; this is how it came to be, and how one
is made of other text. Special tokens are those of RoBERTa: <s> and </s> around a text, <pad>, <mask>.
"""

import argparse
import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

ROOT = Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=ROOT / "configs/mini/text")
    options = parser.parse_args()
    files = options.files or sorted((ROOT / "docs").glob("*.md"))
    special = ["<s>", "<pad>", "</s>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=options.size, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train([str(file) for file in files], trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
    )
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(options.out / "tokenizer.json"))
    roles = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "pad": "<pad>", "mask": "<mask>"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast"} | {f"{role}_token": spelt for role, spelt in roles.items()}
    (options.out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    print(f"{options.out}: {tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
