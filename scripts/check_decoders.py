"""Does Lowland compute what `transformers` computes for decoders? Random models that no test has seen, in double precision.

    python scripts/check_decoders.py [TYPE ..] [--seed N] [--models N] [--lowland PATH]

For each type of model random shapes: heads that are no multiples of 4, groups, parts of heads that turn, biases, tied tables
and not (any eight seeds in a row have each of these), sentences of 1, 2 and more tokens. Compared are logits and losses;
products of the Hessian, the Gauss-Newton and the empirical Fisher matrix; the gradient of each example; squared norms of the
examples' gradients; the Fisher trace over all labels, by tensor; symmetry of the Hessian's products; the largest eigenvalue
of the Hessian of a tiny model; and the logits that `transformers` gives a model that Lowland trained for two steps and
wrote. All but the last two once more of lines as a collator makes them, with padding on both sides and labels to be shifted.
Bounds are those of the test suite. Needs what `tests/fixtures/make_curvature.py` needs.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file
from torch.func import functional_call

root = pathlib.Path(__file__).parent.parent
sys.path += [str(root / "tests/fixtures"), str(root / "scripts")]
import check_lstm  # noqa: E402
from make_curvature import Case  # noqa: E402
from make_transformers import DECODERS, doubled, examples, make, masked_logits, reader, short  # noqa: E402

BOUNDS = {**check_lstm.BOUNDS, "top eigenvalue": 1e-3, "written": 2e-5}


def shape(kind, seed):
    """The longest sentence and a config's sizes. Bits of the seed decide what each eight models are to have."""
    draw = random.Random(f"{kind} {seed}")
    chance = lambda p: draw.random() < p
    tied, biases, third = [bool(seed >> bit & 1) for bit in range(3)]
    longest = draw.choice([8, 11, 19])
    positions, words, layers = longest + draw.randint(0, 3), draw.randint(7, 30), draw.randint(1, 3)
    heads, inner = draw.randint(1, 4), draw.randint(3, 40)
    act = draw.choice(["gelu", "gelu_new", "relu", "silu"])
    # Widths from 8 on: layer norm over two or three numbers leaves signs, and gradients that are rounding.
    if kind in ("gpt2", "opt"):
        size = draw.randint(-(-8 // heads), 10)
        width = heads * (size + (third and size % 4 == 0))
    if kind == "gpt2":
        return longest, dict(
            vocab_size=words, n_embd=width, n_layer=layers, n_head=heads, n_inner=draw.choice([None, inner]),
            n_positions=positions, activation_function=act, layer_norm_epsilon=draw.choice([1e-5, 1e-3]),
            tie_word_embeddings=tied, pad_token_id=draw.choice([None, 1]),
        )
    if kind == "opt":
        return longest, dict(
            vocab_size=words, hidden_size=width, word_embed_proj_dim=width, num_hidden_layers=layers, ffn_dim=inner,
            num_attention_heads=heads, max_position_embeddings=positions, activation_function=act, enable_bias=biases,
            layer_norm_elementwise_affine=chance(0.6), tie_word_embeddings=tied,
        )
    if kind == "gpt_neox":
        size = draw.randint(max(4, -(-8 // heads)), 12)
        share = draw.choice([0.25, 0.4, 0.5]) if third or size % 2 else 1.0
        return longest, dict(
            vocab_size=words, hidden_size=heads * size, num_hidden_layers=layers, num_attention_heads=heads,
            intermediate_size=inner, max_position_embeddings=positions, hidden_act=act, rotary_pct=share,
            rotary_emb_base=draw.choice([10000, 50]), use_parallel_residual=chance(0.6), attention_bias=biases,
            layer_norm_eps=draw.choice([1e-5, 1e-3]), tie_word_embeddings=tied,
        )
    if third:
        heads = draw.randint(2, 4)
    groups = draw.choice([n for n in range(1, heads) if heads % n == 0]) if third else heads
    # An angle turns two numbers.
    size = 2 * draw.randint(-(-4 // heads), 6)
    size += 2 * (third and size % 4 == 0)
    sizes = dict(
        vocab_size=words, hidden_size=heads * size, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=groups, intermediate_size=inner, max_position_embeddings=positions, hidden_act=act,
        rope_theta=draw.choice([10000.0, 50.0]), tie_word_embeddings=tied,
    )
    if kind != "olmo":
        sizes["rms_norm_eps"] = draw.choice([1e-6, 1e-3])
    if kind in ("llama", "mistral") and chance(0.4):
        sizes["head_dim"] = 2 * draw.randint(1, 6)
    if kind in ("llama", "olmo", "olmo2"):
        sizes["attention_bias"] = biases
    if kind == "llama":
        sizes["mlp_bias"] = chance(0.5)
    if kind == "mistral":
        sizes["sliding_window"] = draw.choice([None, positions])
    return longest, sizes


def padded(seed, vocabulary, length, count):
    """Lines of a collator: tokens with padding before and behind them, one line with both, one of two tokens."""
    draw = random.Random(f"padded {seed}")
    rows = []
    for i in range(count):
        tokens = 2 if i == 1 else draw.randint(2, length - 2)
        left = draw.randint(1, length - tokens - 1) if i < 2 else draw.randint(0, length - tokens)
        right = length - tokens - left
        ids = [draw.choice([0, 2, *range(4, vocabulary)]) for _ in range(tokens)]
        # The first token has none before it; some of the others are not predicted.
        labels = [-100] + [-100 if draw.random() < 0.3 else token for token in ids[1:]]
        labels[-1] = ids[-1]
        ends = lambda middle, pad: [pad] * left + middle + [pad] * right
        rows.append({"input_ids": ends(ids, 1), "attention_mask": ends([1] * tokens, 0), "labels": ends(labels, -100)})
    return rows


class PaddedCase(Case):
    """A model over a collator's lines, whose positions are those that `transformers` computes of them."""

    def __init__(self, folder, reader, rows):
        super().__init__(folder, reader)
        self.rows = rows
        self.masked = sum(y != -100 for row in rows for y in row["labels"])
        with torch.no_grad():
            logits, labels = self.logits(self.weights, rows)
            losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
            theirs = self.model(**{key: torch.tensor([row[key] for row in rows]) for key in rows[0]}).loss
        # `transformers` takes its loss in single precision; that the labels are shifted as it shifts them is seen.
        assert abs(losses.mean() / theirs - 1) < 1e-5, f"{losses.mean()} and {theirs}"
        self.truth = {"logits": logits, "losses": losses}

    def logits(self, flat, rows):
        ids, mask, labels = (torch.tensor([row[key] for row in rows]) for key in ("input_ids", "attention_mask", "labels"))
        out = functional_call(self.model, self.parts(flat), kwargs=dict(input_ids=ids, attention_mask=mask)).logits
        predicted = labels[:, 1:] != -100
        return out[:, :-1][predicted], labels[:, 1:][predicted]


class Check(check_lstm.Check):
    """A random model of a type; what is compared of LSTMs is compared of it too."""

    def __init__(self, lowland, folder, kind, seed, sizes=None):
        self.lowland, self.folder, self.kind, self.seed = lowland, folder, kind, seed
        longest, self.sizes = shape(kind, seed) if sizes is None else (8, sizes)
        rows = examples(1000 + seed, self.sizes["vocab_size"], longest - 2, 6)
        make(folder, seed, kind, self.sizes, rows[:3] + short(self.sizes["vocab_size"]) + rows[3:])
        self.case, self.longest = Case(folder, reader(kind)), longest
        self.errors = {}

    def all(self):
        super().all()
        rows = padded(self.seed, self.sizes["vocab_size"], self.longest, 5)
        self.examples = "padded.jsonl"
        (self.folder / self.examples).write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.case = PaddedCase(self.folder, reader(self.kind), rows)
        self.logits()
        self.products()
        self.fisher()

    def top_eigenvalue(self):
        """Of a model small enough for all columns of its Hessian."""
        case = self.case
        columns = [case.hessian_product(v, case.rows) / case.masked for v in torch.eye(len(case.weights)).double()]
        values = torch.linalg.eigvalsh(torch.stack(columns))
        want = values[values.abs().argmax()]
        got = self.run("measure", "spectrum", "--top", 1)["eigenvalues"][0]
        self.note("top eigenvalue", abs(got / want - 1))

    def written(self):
        """A run of two steps writes a model of these sizes, which `transformers` reads."""
        aside = ("vocab_size", "n_positions", "max_position_embeddings", "pad_token_id", "word_embed_proj_dim", "sliding_window")
        keys = {key: value for key, value in self.sizes.items() if key not in aside and value is not None}
        lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        (self.folder / "run.toml").write_text("\n".join([LANGUAGE, "[model]", f'type = "{self.kind}"', *lines]) + "\n")
        run = self.folder / "run"
        command = [self.lowland, "train", str(self.folder / "run.toml"), f"output={run}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}: {done.stderr}")
        rows = examples(self.seed, 16, 6, 5)
        (run / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        out = run / "logits.safetensors"
        command = [self.lowland, "eval", str(run / "model"), str(run / "rows.jsonl"), "--export", "logits", str(out)]
        subprocess.run(command, check=True, capture_output=True)
        with torch.no_grad():
            want = masked_logits(doubled(reader(self.kind).from_pretrained(run / "model")), rows)[0]
        self.note("written", (load_file(out)["logits"].double() - want).abs().max())


LANGUAGE = """[language]
random = { levels = 2, symbols = 3, rules = 2, vocabulary = 12, seed = 1 }
max_length = 4

[train]
steps = 2
batch_size = 8

[evaluate]
sentences = 8
"""

# Models of a few hundred parameters: all columns of their Hessians are taken.
TINY = {
    "gpt2": dict(vocab_size=7, n_embd=4, n_layer=1, n_head=2, n_inner=6, n_positions=8),
    "opt": dict(vocab_size=7, hidden_size=4, word_embed_proj_dim=4, num_hidden_layers=1, num_attention_heads=2, ffn_dim=6,
                max_position_embeddings=8),
    "gpt_neox": dict(vocab_size=7, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=6,
                     max_position_embeddings=8, rotary_pct=0.5),
    **{
        kind: dict(vocab_size=7, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
                   intermediate_size=6, max_position_embeddings=8)
        for kind in ["llama", "qwen2", "mistral", "olmo", "olmo2"]
    },
}


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("types", nargs="*", metavar="TYPE", choices=[[], *DECODERS])
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 20))
    arguments.add_argument("--models", type=int, default=8)
    arguments.add_argument("--lowland", default=str(root / "target/release/lowland"))
    arguments = arguments.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    wrong = []
    for kind in arguments.types or DECODERS:
        worst = {}
        for seed in range(arguments.seed, arguments.seed + arguments.models + 1):
            tiny = TINY[kind] if seed == arguments.seed + arguments.models else None
            with tempfile.TemporaryDirectory() as folder:
                check = Check(arguments.lowland, pathlib.Path(folder, "model"), kind, seed, tiny)
                if tiny:
                    check.top_eigenvalue()
                else:
                    check.all()
            print(f"{kind}, seed {seed}: {check.sizes}")
            print("    " + ", ".join(f"{what} {error:.1e}" for what, error in check.errors.items()), flush=True)
            worst = {what: max(check.errors.get(what, 0.0), worst.get(what, 0.0)) for what in {**worst, **check.errors}}
        print(f"{kind}, worst: " + ", ".join(f"{what} {e:.1e} (bound {BOUNDS[what]:.0e})" for what, e in worst.items()))
        wrong += [f"{kind}: {what}" for what, error in worst.items() if not error <= BOUNDS[what]]
    if wrong:
        sys.exit(f"beyond their bounds: {', '.join(wrong)}")
