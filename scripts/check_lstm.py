"""Does Lowland compute what torch's LSTM does? Random models that no test has seen, in double precision.

    python scripts/check_lstm.py [--seed N] [--models N] [--lowland PATH]

Each model has a random shape, both directions or one, a tied head or not, and sentences of 1, 2 and more tokens. Compared
are logits and losses; products of the Hessian, the Gauss-Newton and the empirical Fisher matrix; the gradient of each
example; squared norms of the examples' gradients; the Fisher trace over all labels, by tensor; symmetry of the Hessian's
products; and the tensors that Lowland writes for the same model. (A norm that single precision does not hold to its bound is
counted in what a rounding of the weights moves it by.) Bounds are those of the test suite. Needs torch,
safetensors and what `tests/fixtures/make_curvature.py` needs.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

root = pathlib.Path(__file__).parent.parent
sys.path += [str(root / "tests/fixtures"), str(root / "scripts")]
from lstm_mlm import RNNLMHeadModel  # noqa: E402
from make_curvature import Case  # noqa: E402
from make_transformers import examples, make, short  # noqa: E402

# Relative, but of logits absolute.
BOUNDS = {
    "logits": 2e-5, "loss": 1e-6, "gradients": 1e-4, "hessian": 2e-4, "ggn": 2e-4, "empirical_fisher": 2e-4, "norms": 1e-5,
    "norms over rounding": 2.0, "fisher": 1e-5, "fisher by tensor": 1e-5, "symmetry": 1e-5, "written": 0.0,
}


def shape(seed):
    draw = random.Random(seed)
    both = draw.random() < 0.7
    longest = draw.choice([8, 11, 19])
    return longest, dict(
        vocab_size=draw.randint(7, 30), hidden_size=draw.randint(1, 20) * 2 + (0 if both else draw.randint(0, 1)),
        num_hidden_layers=draw.randint(1, 3), bidirectional=both, max_position_embeddings=longest + draw.randint(0, 3),
        type_vocab_size=draw.randint(1, 2), hidden_act=draw.choice(["gelu", "gelu", "relu", "silu"]),
        tie_word_embeddings=draw.random() < 0.7, layer_norm_eps=draw.choice([1e-12, 1e-5]),
    )


class Check:
    examples = "examples.jsonl"

    def __init__(self, lowland, folder, seed):
        self.lowland, self.folder, self.seed = lowland, folder, seed
        longest, self.sizes = shape(seed)
        rows = examples(1000 + seed, self.sizes["vocab_size"], longest - 2, 6)
        rows = rows[:3] + short(self.sizes["vocab_size"]) + rows[3:]
        make(folder, seed, "lstm", self.sizes, rows)
        self.case = Case(folder, RNNLMHeadModel)
        self.errors = {}

    def run(self, *arguments):
        words = 1 if arguments[0] == "eval" else 2
        on = [self.folder, self.folder / self.examples]
        command = list(map(str, [self.lowland, *arguments[:words], *on, *arguments[words:]]))
        done = subprocess.run([*command, "--json"], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}: {done.stderr}")
        return json.loads(done.stdout)

    def note(self, what, error):
        self.errors[what] = max(self.errors.get(what, 0.0), float(error))

    def product(self, matrix, vectors):
        """Vectors [K, N] times a matrix, by Lowland."""
        file, out = self.folder / "v.safetensors", self.folder / "hv.safetensors"
        save_file({name: v.float().contiguous() for name, v in self.case.parts(vectors).items()}, file)
        self.run("measure", "hvp", "--vector", file, "--matrix", matrix, "--out", out)
        got = load_file(out)
        return torch.cat([got[name].double().flatten(1) for name in self.case.names], dim=1)

    def logits(self):
        out = self.folder / "logits.safetensors"
        report = self.run("eval", "--export", "logits", out)
        got = load_file(out)["logits"].double()
        self.note("logits", (got - self.case.truth["logits"]).abs().max())
        self.note("loss", abs(report["loss"] / self.case.truth["losses"].mean() - 1))

    def products(self):
        case, rows = self.case, self.case.rows
        vectors = torch.randn(3, len(case.weights), generator=torch.Generator().manual_seed(self.seed)).double()
        gradients = torch.stack([case.gradient([r]) for r in rows])
        want = {
            "hessian": torch.stack([case.hessian_product(v, rows) for v in vectors]),
            "ggn": torch.stack([case.ggn_product(v, rows)[0] for v in vectors]),
            "empirical_fisher": vectors @ gradients.T @ gradients,
        }
        for matrix, products in want.items():
            got = self.product(matrix, vectors)
            products /= len(rows) if matrix == "empirical_fisher" else case.masked
            self.note(matrix, ((got - products).norm(dim=1) / products.norm(dim=1)).max())
            if matrix == "hessian":
                crossed = got @ vectors.T
                self.note("symmetry", (crossed - crossed.T).abs().max() / (got.norm(dim=1).max() * vectors.norm(dim=1).max()))
        # The empirical Fisher matrix is Σ g gᵀ / n: times a vector at right angles to all gradients but one it is that one.
        duals = torch.linalg.pinv(gradients).T.float().double() * len(rows)
        want = duals @ gradients.T @ gradients / len(rows)
        apart = (self.product("empirical_fisher", duals) - want).norm(dim=1) / gradients.norm(dim=1)
        self.note("gradients", apart.max())
        got = torch.tensor(self.run("measure", "noise")["per_example_squared_norm"], dtype=torch.float64)
        norms = (gradients**2).sum(1)
        apart, moved = (got / norms - 1).abs(), self.moved_by_rounding(norms)
        # Where rounding the weights in another way moves a norm by as much as the bound, that is what is to be expected.
        ill = moved > BOUNDS["norms"]
        self.note("norms", apart[~ill].max())
        if ill.any():
            self.note("norms over rounding", (apart / moved)[ill].max())

    def moved_by_rounding(self, norms):
        """By how much weights that are off by a rounding of single precision move examples' squared norms, relatively."""
        weights, moved = self.case.weights, torch.zeros_like(norms)
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(4):
            off = torch.randn(len(weights), generator=generator).double()
            self.case.weights = weights * (1 + 2.0**-24 * off)
            other = torch.stack([self.case.gradient([r]).square().sum() for r in self.case.rows])
            moved = torch.maximum(moved, (other / norms - 1).abs())
        self.case.weights = weights
        return moved

    def fisher(self):
        got = self.run("measure", "trace", "--estimator", "exact-labels")
        squares = self.case.fisher().sum(0) / self.case.masked
        whole = squares.sum()
        self.note("fisher", abs(got["trace"] / whole - 1))
        for name, part in self.case.parts(squares).items():
            self.note("fisher by tensor", abs(got["per_tensor"][name] - part.sum()) / whole)

    def written(self):
        """`enlarge` to the same size writes what it read."""
        out = self.folder / "again"
        layers = f"layers={self.sizes['num_hidden_layers']}"
        subprocess.run([self.lowland, "enlarge", str(self.folder), layers, str(out)], check=True, capture_output=True)
        again = RNNLMHeadModel.from_pretrained(out).state_dict()
        for name, p in load_file(self.folder / "model.safetensors").items():
            self.note("written", (again.pop(name) - p).abs().max())
        assert not again, f"more tensors than there were: {list(again)}"

    def all(self):
        self.logits()
        self.products()
        self.fisher()
        self.written()
        return self.errors


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 20))
    arguments.add_argument("--models", type=int, default=8)
    arguments.add_argument("--lowland", default=str(root / "target/release/lowland"))
    arguments = arguments.parse_args()
    torch.set_num_threads(1)
    worst = {}
    for seed in range(arguments.seed, arguments.seed + arguments.models):
        with tempfile.TemporaryDirectory() as folder:
            check = Check(arguments.lowland, pathlib.Path(folder, "model"), seed)
            errors = check.all()
        print(f"seed {seed}: {check.sizes}")
        print("    " + ", ".join(f"{what} {error:.1e}" for what, error in errors.items()), flush=True)
        worst = {what: max(error, worst.get(what, 0.0)) for what, error in errors.items()}
    print("worst: " + ", ".join(f"{what} {error:.1e} (bound {BOUNDS[what]:.0e})" for what, error in worst.items()))
    if wrong := [what for what, error in worst.items() if not error <= BOUNDS[what]]:
        sys.exit(f"beyond their bounds: {', '.join(wrong)}")
