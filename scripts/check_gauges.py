"""Are models that `lowland regauge` writes the same function? Random models of every type, by `transformers` in double precision.

    python scripts/check_gauges.py [TYPE ..] [--seed N] [--lowland PATH]

Each type with a tied head and with one of its own; each flag alone and all of them together, by powers of two. Which flags
a type has must be what the table of docs/regauge.md says. Compared are the logits of both folders, over their standard
deviation, at every predicted position of a few sentences; and the tensors, of which some must differ. LSTMs are read by
scripts/lstm_mlm.py. Needs what `tests/fixtures/make_transformers.py` needs.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file

root = pathlib.Path(__file__).parent.parent
sys.path += [str(root / "tests/fixtures"), str(root / "scripts")]
from make_transformers import DECODERS, doubled, examples, masked_logits, model, reader, short  # noqa: E402

FLAGS = ["--tables", "--residual", "--final-norm", "--query-key", "--value-output"]
FACTORS = ["1/4", "4", "1/2", "2", "1/4"]
BOUND = 1e-9
# The names of make_transformers.py.
NAMES = {"roberta": "roberta-prelayernorm", "postnorm": "roberta"}
EPS = {"gpt2": "layer_norm_epsilon", "gpt_neox": "layer_norm_eps", "opt": None, "olmo": None}
# What is added to a residual stream that no norm follows, and the norm before a tied head.
WRITTEN = ["wte", "wpe", "embed_tokens", "embed_positions", "embed_in", "attn.c_proj", "mlp.c_proj", "o_proj", "out_proj",
           "fc2", "down_proj"]


def sizes(kind, tied):
    """Heads that are no multiples of 4, in groups where there are any; norms with next to no eps where it can be set."""
    common = dict(vocab_size=13, tie_word_embeddings=tied)
    if kind == "gpt2":
        own = dict(n_embd=12, n_layer=2, n_head=2, n_inner=10, n_positions=12)
    elif kind == "lstm":
        own = dict(hidden_size=12, num_hidden_layers=2, max_position_embeddings=14, type_vocab_size=2)
    else:
        own = dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=14)
        own.update(dict(ffn_dim=10, word_embed_proj_dim=12) if kind == "opt" else dict(intermediate_size=10))
    if kind in ("llama", "qwen2", "mistral", "olmo", "olmo2"):
        own["num_key_value_heads"] = 1
    if kind == "gpt_neox":
        own["rotary_pct"] = 0.4
    if kind == "mistral":
        own["sliding_window"] = None
    eps = EPS.get(kind, "rms_norm_eps" if kind in DECODERS else "layer_norm_eps")
    return {**common, **own, **({eps: 1e-12} if eps else {})}


def enlarge_stream(m, tied):
    """Beside which the eps of OPT and OLMo, which is no key, is nothing."""
    with torch.no_grad():
        for name, p in m.named_parameters():
            if any(f"{part}." in name for part in WRITTEN):
                p *= 2.0**13
            elif tied and name.startswith("model.decoder.final_layer_norm"):
                p *= 2.0**-13


def logits(folder, kind, rows):
    m = doubled(reader(kind).from_pretrained(folder))
    with torch.no_grad():
        return masked_logits(m, rows)[0]


def promised(kind, tied):
    page = (root / "docs/regauge.md").read_text()
    row = re.search(rf"^\| `{NAMES.get(kind, kind)}` \| (.*) \|$", page, re.M).group(1).split(" | ")
    return [flag for flag, cell in zip(FLAGS, row) if cell in ("yes", "tied" if tied else "untied")]


def check(lowland, kind, tied, seed, folder):
    m = model(kind, seed, **sizes(kind, tied))
    flags = promised(kind, tied)
    if EPS.get(kind, "") is None and {"--tables", "--residual"} & set(flags):
        enlarge_stream(m, tied)
    own = folder / "own"
    m.save_pretrained(own)
    rows = examples(100 + seed, 13, 8, 6)
    rows += short(13) if kind in DECODERS else []
    before, tensors = logits(own, kind, rows), load_file(own / "model.safetensors")
    worst = 0.0
    alone = [[f] for f in FLAGS]
    for i, some in enumerate(alone + [flags]):
        out = folder / f"out-{i}"
        factors = [word for f in some for word in (f, FACTORS[FLAGS.index(f)])]
        done = subprocess.run([lowland, "regauge", own, out, *factors, "--json"], capture_output=True, text=True)
        if some[0] not in flags:
            assert done.returncode == 2 and some[0] in done.stderr, f"{kind} {some}: {done.returncode} {done.stderr}"
            continue
        assert done.returncode == 0, f"{kind} {some}: {done.stderr}"
        said = json.loads(done.stdout)
        apart = float((logits(out, kind, rows) - before).abs().max() / before.std())
        new = load_file(out / "model.safetensors")
        # GPT-NeoX's head is called otherwise by older versions.
        moved = [name for name in new.keys() & tensors.keys() if not torch.equal(new[name], tensors[name])]
        assert moved and said["rounding_difference"] == 0, f"{kind} {some}: nothing moved, or rounded"
        worst = max(worst, apart)
    return flags, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*", default=["roberta", "bert", "postnorm", "lstm", *DECODERS])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lowland", default=str(root / "target/release/lowland"))
    a = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    worst = 0.0
    for kind in a.types:
        for tied in (True, False):
            with tempfile.TemporaryDirectory() as folder:
                flags, apart = check(a.lowland, kind, tied, a.seed, pathlib.Path(folder))
            worst = max(worst, apart)
            head = "tied" if tied else "untied"
            print(f"{NAMES.get(kind, kind):22} {head:7} {apart:.1e}  {' '.join(flags)}", flush=True)
    print(f"logits differ by at most {worst:.1e} of their spread")
    assert worst < BOUND, f"more than {BOUND:.0e}"


if __name__ == "__main__":
    main()
