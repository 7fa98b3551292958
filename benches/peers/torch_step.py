"""The same model and the same step in PyTorch, for `benches/step`.

Reads one JSON object a line from standard input and answers each with one:

    {"prepare": {"model": {config.json}, "batch": [{"input_ids": [..], "positions": [..], "labels": [..]}, ..]}}
    {"run": "forward" | "gradient" | "step", "times": n}      -> {"seconds": [..]}
    {"product": {"layout": "NT" | "NN" | "TN", "m": .., "k": .., "n": ..}, "times": n}      the same

Eager f32, encoder or decoder and head of `transformers` with its default attention, or an LSTM of `scripts/lstm_mlm.py`;
the head on the predicted rows only, AdamW as PyTorch has it. `--device cuda` for a GPU (TF32 off).
"""

import argparse, functools, json, pathlib, platform, sys, time

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, RobertaPreLayerNormConfig, RobertaPreLayerNormForMaskedLM

sys.path.append(str(pathlib.Path(__file__).parents[2] / "scripts"))
from lstm_mlm import LstmConfig, RNNLMHeadModel  # noqa: E402

arguments = argparse.ArgumentParser()
arguments.add_argument("--device", default="cpu")
arguments.add_argument("--threads", type=int)
arguments = arguments.parse_args()
if arguments.threads:
    torch.set_num_threads(arguments.threads)
device = torch.device(arguments.device)
torch.backends.cuda.matmul.allow_tf32 = False


def wait():
    if device.type == "cuda":
        torch.cuda.synchronize()


class Setting:
    def __init__(self, p):
        longest = max(len(s["input_ids"]) for s in p["batch"])
        torch.manual_seed(0)
        self.lstm = p["model"]["model_type"] == "lstm"
        self.decoder = p["model"]["model_type"] in ("gpt2", "llama")
        if self.lstm:
            self.model = RNNLMHeadModel(LstmConfig(**p["model"]))
        elif self.decoder:
            self.model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**p["model"]))
        else:
            config = RobertaPreLayerNormConfig(**p["model"])
            self.model = RobertaPreLayerNormForMaskedLM(config)
        self.model = self.model.to(device).train()
        self.ids = torch.full((len(p["batch"]), longest), 1)
        rows, positions, labels = [], [], []
        for i, s in enumerate(p["batch"]):
            self.ids[i, : len(s["input_ids"])] = torch.tensor(s["input_ids"])
            rows += [i] * len(s["positions"])
            positions += s["positions"]
            labels += s["labels"]
        mask = (self.ids != 1).long()
        self.mask = None if bool(mask.all()) else mask.to(device)
        self.ids = self.ids.to(device)
        self.rows, self.positions, self.labels = (torch.tensor(v, device=device) for v in (rows, positions, labels))
        # Where every token predicts, the head reads all hidden states as they lie.
        self.all = len(rows) == self.ids.numel() and rows == sorted(rows)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)

    @torch.no_grad()
    def forward(self):
        self.loss()

    def gradient(self):
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()

    def loss(self):
        if self.lstm:
            hidden = self.model.encode(self.ids, self.mask).last_hidden_state
            logits = self.model.head(hidden[self.rows, self.positions])
        elif self.decoder:
            hidden = self.model.base_model(self.ids, attention_mask=self.mask, use_cache=False).last_hidden_state
            hidden = hidden.flatten(0, 1) if self.all else hidden[self.rows, self.positions]
            logits = self.model.get_output_embeddings()(hidden)
        else:
            hidden = self.model.roberta_prelayernorm(self.ids, attention_mask=self.mask).last_hidden_state
            logits = self.model.lm_head(hidden[self.rows, self.positions])
        return torch.nn.functional.cross_entropy(logits, self.labels)

    def step(self):
        self.gradient()
        self.optimizer.step()


@functools.lru_cache(maxsize=1)
def operands(layout, m, k, n):
    a, b = torch.randn(m, k, device=device), torch.randn(k, n, device=device)
    if layout == "NT":
        return a, b.T.contiguous().T
    return (a.T.contiguous().T, b) if layout == "TN" else (a, b)


def product(p, times):
    a, b = operands(p["layout"], p["m"], p["k"], p["n"])
    seconds = []
    for _ in range(times):
        wait()
        start = time.perf_counter()
        a @ b
        wait()
        seconds.append(time.perf_counter() - start)
    return seconds


setting = None
about = {
    "torch": torch.__version__, "transformers": transformers.__version__, "python": platform.python_version(),
    "threads": torch.get_num_threads(),
    "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
}
print(json.dumps(about), flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if "prepare" in order:
        setting = Setting(order["prepare"])
        answer = {}
    elif "product" in order:
        answer = {"seconds": product(order["product"], order["times"])}
    else:
        seconds = []
        for _ in range(order["times"]):
            wait()
            start = time.perf_counter()
            getattr(setting, order["run"])()
            wait()
            seconds.append(time.perf_counter() - start)
        answer = {"seconds": seconds}
    print(json.dumps(answer), flush=True)
