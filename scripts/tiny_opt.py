"""Makes tiny random OPT models, for generated languages without a download: `model.safetensors` in half precision,
`config.json`, and logits of random sentences in double precision, from those very weights (`truth.safetensors`).

    pip install torch==2.15.0 transformers==5.24.0
    python scripts/tiny_opt.py tests/fixtures        # opt-120, opt-120-projected, opt-120-postnorm

A fresh OPT has logits close to 0, whose softmax says nothing about a mistake. Here matrices keep the size of what they
are applied to, and the table of words is so large that logits have a standard deviation of 2 to 3.
"""

import importlib
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import OPTConfig, OPTForCausalLM

SIZES = dict(
    vocab_size=120,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    ffn_dim=64,
    max_position_embeddings=64,
    dropout=0.0,
    attention_dropout=0.0,
    bos_token_id=2,
    eos_token_id=2,
    pad_token_id=1,
)
MODELS = {
    "opt-120": dict(),
    "opt-120-projected": dict(word_embed_proj_dim=16),
    "opt-120-postnorm": dict(do_layer_norm_before=False),
}


class InDouble:
    """torch for a decoder, which takes its softmax in single precision whatever its weights are."""

    float32 = float = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


importlib.import_module("transformers.models.opt.modeling_opt").torch = InDouble()


def made(keys, seed):
    torch.manual_seed(seed)
    config = OPTConfig(**SIZES, **keys)
    config._attn_implementation = "eager"
    model = OPTForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("layer_norm.weight"):
                weight.normal_(1.0, 0.1)
            elif name.endswith("bias"):
                weight.normal_(0.0, 0.1)
            elif "embed_tokens" in name:
                weight.normal_(0.0, 2.2 / weight.shape[1] ** 0.5)
            elif "embed_positions" in name:
                weight.normal_(0.0, 0.05)
            else:
                # What layers write outweighs the word that they read, which would repeat itself else.
                # What comes from the words before the last counts less, or a small model learns the language slowly.
                sizes = {"fc2": 3.0, "project": 1.1, "out_proj": 0.2}
                size = next((size for part, size in sizes.items() if part in name), 0.5)
                weight.normal_(0.0, size / weight.shape[1] ** 0.5)
        # The end of a sentence, which nothing favours else: along the shift of the norm before the head.
        decoder = model.model.decoder
        shift = (decoder.final_layer_norm or decoder.layers[-1].final_layer_norm).bias
        if shift.shape[0] == decoder.embed_tokens.weight.shape[1]:
            decoder.embed_tokens.weight[2] = 4.0 * shift / shift.norm() + 0.3 * decoder.embed_tokens.weight[2]
    return model


folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
for number, (name, keys) in enumerate(MODELS.items()):
    model = made(keys, number)
    out = folder / name
    model.half().save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)
    model = model.double().eval()
    ids = torch.randint(4, SIZES["vocab_size"], (3, 12), generator=torch.Generator().manual_seed(7))
    ids[:, 0] = 2
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    save_file({"ids": ids.float(), "logits": logits}, out / "truth.safetensors")
    size = sum(file.stat().st_size for file in out.iterdir())
    print(f"{name}: logits' standard deviation {logits.std():.2f}, {size / 1e3:.0f} kB")
    text = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(text, indent=1, sort_keys=True) + "\n")
