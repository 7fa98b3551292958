"""Does `transformers` read a model that Lowland trained, and does it see the same numbers?

    python scripts/check_transformers.py MODEL CONFIG [path of lowland]

Draws sentences of the config's language, masks a word of each, and compares the logits of Lowland with those of
`AutoModelForMaskedLM` in f64, and the token ids of `AutoTokenizer` with the words' numbers. Needs torch, transformers,
safetensors.
"""

import json, random, subprocess, sys, tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

model_path, config = sys.argv[1], sys.argv[2:3]
lowland = sys.argv[3] if len(sys.argv) > 3 else "target/release/lowland"

sentences = subprocess.run(
    [lowland, "language", "sample", *config, "--count", "200", "--seed", "77"], check=True, capture_output=True, text=True
).stdout.split("\n")[:-1]
tokenizer = AutoTokenizer.from_pretrained(model_path)
model = AutoModelForMaskedLM.from_pretrained(model_path).double().eval()
words = Path(model_path, "vocab.txt").read_text().split("\n")[:-1]
random.seed(1)
lines, expected = [], []
for sentence in sentences:
    ids = tokenizer(sentence)["input_ids"]
    assert ids == [0, *(words.index(w) for w in sentence.split()), 2], (sentence, ids)
    position = random.randrange(1, len(ids) - 1)
    label, ids[position] = ids[position], tokenizer.mask_token_id
    lines.append(json.dumps({"input_ids": ids, "masked_positions": [position], "labels": [label]}))
    with torch.no_grad():
        expected.append(model(torch.tensor([ids])).logits[0, position])
expected = torch.stack(expected)
with tempfile.TemporaryDirectory() as folder:
    examples, logits = Path(folder, "examples.jsonl"), Path(folder, "logits.safetensors")
    examples.write_text("\n".join(lines) + "\n")
    subprocess.run(
        [lowland, "eval", model_path, str(examples), "--export", "logits", str(logits), "--json"], check=True, capture_output=True
    )
    got = load_file(logits)["logits"].double()
difference = (got - expected).abs().max().item()
print(f"{len(lines)} sentences, logits differ by at most {difference:.2e}, token ids are equal")
assert difference < 2e-5, "more than 2e-5"
