"""Seconds from SIGTERM until a command has ended, at random moments of each command, as a table.

    python3 scripts/interrupt_times.py [target/release/lowland] [--model demo|encoder] [--rounds 3] [--only NAME] [--seed 1]

`demo` is the model of configs/quickstart.toml (106,384 parameters), `encoder` one of 26 million (width 512, 8 layers) on
sentences of 108 words; both are made anew, a few steps from random weights. Needs Python alone. Ends with 1 where a command
takes longer than its bound (5 s and 15 s), ends with another code than it should, or prints something else than one JSON object.
"""

import argparse
import json
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

ENCODER = """seed = 1
[language]
kind = "hmm"
hmm = { states = 8, vocabulary = 25, seed = 1, transition_concentration = 0.3, emission_concentration = 0.3 }
max_length = 108
[model]
hidden_size = 512
num_hidden_layers = 8
num_attention_heads = 8
intermediate_size = 2048
[train]
steps = 1000
batch_size = 16
[evaluate]
sentences = 4
"""

SWEEP = """name = "stopped"
base = "{base}"
output = "sweep"
[grid]
seed = {{ from = 1, count = 2 }}
[examine]
sentences = 64
[examine.measure]
trace = {{ sentences = 64 }}
[[examine.probe]]
task = "{task}"
train = 200
validation = 100
test = 200
"""


def vectors(model: Path, to: Path, count: int) -> None:
    """Random vectors, named as the model's tensors, along a leading axis."""
    with open(model / "model.safetensors", "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    header.pop("__metadata__", None)
    at, new = 0, {}
    for name, tensor in header.items():
        size = 4 * count
        for n in tensor["shape"]:
            size *= n
        new[name] = {"dtype": "F32", "shape": [count, *tensor["shape"]], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(new).encode()
    text += b" " * (-len(text) % 8)
    block = struct.pack("<1024f", *(random.gauss(0, 1) for _ in range(1024)))
    with open(to, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for start in range(0, at, len(block)):
            file.write(block[: at - start])


def commands(name: str, model: str, config: str) -> list[tuple[str, list[str], int]]:
    """(name, arguments, exit code) of commands that would run for long."""
    small = name == "demo"
    task = "B" if small else "task-50"
    many = "400000" if small else "4000"
    # More sentences of the encoder than this are more than lavapipe binds.
    batch = [] if small else ["--batch", "64"]
    measure = lambda kind, *more: ["measure", kind, model, config, *batch, *more]
    fits = ["--task", task, "--train", "500", "--test", "200", "--seeds", "200"]
    return [
        ("train", ["train", config, "output=run", "train.steps=100000"], 75),
        ("eval", ["eval", model, config, *batch, "--count", many], 130),
        ("measure trace, quadratic-form", measure("trace", "--estimator", "quadratic-form", "--rel-error", "0.003"), 130),
        ("measure trace, random-signs", measure("trace", "--estimator", "random-signs", "--rel-error", "0.0005"), 130),
        ("measure trace, exact-labels", measure("trace", "--estimator", "exact-labels", "--count", many), 130),
        ("measure hvp", measure("hvp", "--vector", "v.safetensors", "--out", "hv.safetensors", "--count", "2000" if small else "64"), 130),
        ("measure spectrum", measure("spectrum", "--density", "--top", "20", "--tolerance", "1e-9", "--count", "2000" if small else "64"), 130),
        ("measure noise", measure("noise", "--bartlett", "--count", "3000" if small else "64", "--eigenvalues-up-to", "4000"), 130),
        ("measure sharpness", measure("sharpness", "--count", "20000" if small else "256", "--tolerance", "1e-9"), 130),
        ("probe", ["probe", model, config, *fits, "--epochs", "500"], 130),
        ("finetune", ["finetune", model, config, *fits, "--epochs", "100"], 75),
        ("sweep run", ["sweep", "run", "sweep.toml"], 75),
        ("selftest", ["selftest"], 130),
    ]


def stop(binary: str, arguments: list[str], folder: str, after: float) -> tuple[float | None, int, str, str]:
    """Starts a command, ends it after some seconds: (seconds, code, output, errors), None seconds where it was over before."""
    command = [binary, *arguments, "--json"]
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = child.communicate(timeout=after)
        return None, child.returncode, out, err
    except subprocess.TimeoutExpired:
        pass
    sent = time.monotonic()
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=300)
    return time.monotonic() - sent, child.returncode, out, err


def verdict(code: int, wanted: int, out: str) -> str:
    if code != wanted:
        return f"ends with {code} instead of {wanted}"
    try:
        value = json.loads(out)
    except ValueError:
        return "no JSON object"
    return "" if value.get("interrupted") is True and value.get("reached") is False else "does not say so"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary", nargs="?", default=str(ROOT / "target/release/lowland"))
    parser.add_argument("--model", choices=["demo", "encoder"], default="demo")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--longest", type=float, default=12.0, help="seconds from the start to the latest signal")
    parser.add_argument("--only", default="", help="commands with this in their name")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    binary = str(Path(arguments.binary).resolve())
    bound = 5.0 if arguments.model == "demo" else 15.0
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.toml"
        if arguments.model == "demo":
            config.write_text((ROOT / "configs/quickstart.toml").read_text())
        else:
            config.write_text(ENCODER)
        quick = ["train.steps=1", "train.batch_size=2", "measure={ every = 0, trace = { sentences = 8 } }"]
        made = ["train", "config.toml", "output=made", *quick]
        subprocess.run([binary, *made], cwd=folder, check=True, capture_output=True)
        task = "B" if arguments.model == "demo" else "task-50"
        (Path(folder) / "sweep.toml").write_text(SWEEP.format(base="config.toml", task=task))
        vectors(Path(folder) / "made/model", Path(folder) / "v.safetensors", 400 if arguments.model == "demo" else 16)
        print(f"| command | seconds from the signal to the end, after | |\n| --- | --- | --- |")
        for name, command, code in commands(arguments.model, "made/model", "config.toml"):
            if arguments.only not in name:
                continue
            cells, words = [], []
            for _ in range(arguments.rounds):
                after = random.uniform(0.3, arguments.longest)
                result = stop(binary, command, folder, after)
                seconds, got, out, err = result
                if seconds is None:
                    cells.append(f"over before {after:.1f} s, with {got}")
                    print(err[-500:], file=sys.stderr)
                    continue
                wrong = verdict(got, code, out)
                if seconds > bound:
                    wrong = f"above {bound:.0f} s; {wrong}"
                cells.append(f"{seconds:.2f} ({after:.1f} s)")
                words.append("partial" if len(out) > 60 else "nothing yet" if code == 130 else "kept")
                if wrong:
                    bad += 1
                    words[-1] += f" WRONG: {wrong}"
                    print(err[-2000:], file=sys.stderr)
            print(f"| {name} | {', '.join(cells)} | {', '.join(words)} |", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
