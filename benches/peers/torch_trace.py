"""The trace of the Hessian in PyTorch, for a bench beside `lowland measure trace`.

Reads one JSON object a line from standard input and answers each with one:

    {"load": {"model": FOLDER, "examples": FILE}}            -> {"parameters": n, "examples": n}
    {"hutchinson": {"batch": 128, "batches": k, "seed": s}}  -> {"estimates": [..], "seconds": [..]}
    {"labels": {"batch": 128, "batches": k, "seed": s, "how": "vmap" | "loop"}}
                                    -> {"squared_norms": [[..]], "masked": [[..]], "seconds": [..]}

`hutchinson` is the method of Liuhong99/implicitbiasmlmcode (`pcfg/calculate_hessian.py`): a batch of sentences, one Gaussian
vector, double backward through the mean loss over the batch's masked positions, the product. It differs in what would only
slow it down or leave something out: the head sees the masked rows only, and all parameters count (the released script leaves
out the pooler and the head's bias). `labels` draws a label from the model at each masked position and gives the squared norm
of the gradient of each sentence's summed loss; the sum of the norms over the sum of `masked` estimates the Fisher's trace.
PyTorch has no ghost norms for a tied table, so that the gradients are formed: all at once (`vmap`) or one by one (`loop`).

Eager f32; eager attention, since the others have no second derivative. `--device cuda` for a GPU (TF32 off).
"""

import argparse, json, platform, random, sys, time

import torch
import transformers
from torch.func import functional_call, grad, vmap
from transformers import AutoModelForMaskedLM

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


class Batch:
    """Sentences padded to the longest, their masked positions in a row."""

    def __init__(self, rows, pad):
        longest = max(len(r["input_ids"]) for r in rows)
        self.ids = torch.tensor([r["input_ids"] + [pad] * (longest - len(r["input_ids"])) for r in rows], device=device)
        keep = torch.tensor([[1.0] * len(r["input_ids"]) + [0.0] * (longest - len(r["input_ids"])) for r in rows])
        # Added to the scores; a mask of four axes is taken as it is, by vmap too.
        self.mask = ((1.0 - keep) * torch.finfo(torch.float32).min)[:, None, None, :].expand(-1, 1, longest, -1)
        self.mask = self.mask.contiguous().to(device)
        self.rows = torch.tensor([i for i, r in enumerate(rows) for _ in r["masked_positions"]], device=device)
        self.positions = torch.tensor([t for r in rows for t in r["masked_positions"]], device=device)
        self.labels = torch.tensor([y for r in rows for y in r["labels"]], device=device)
        self.masked = [len(r["labels"]) for r in rows]
        # The same with as many masked positions a sentence as the longest list has, and weights 0 or 1.
        most = max(self.masked)
        fill = lambda values: values + [values[0]] * (most - len(values))
        self.by_sentence = torch.tensor([fill(r["masked_positions"]) for r in rows], device=device)
        self.weight = torch.tensor([[1.0] * n + [0.0] * (most - n) for n in self.masked], device=device)


class Sentence(torch.nn.Module):
    """Logits of one sentence's masked positions."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, mask, positions):
        hidden = self.model.base_model(ids[None], attention_mask=mask[None]).last_hidden_state
        return (getattr(self.model, "lm_head", None) or self.model.cls)(hidden[0, positions])


class Model:
    def __init__(self, model, examples):
        self.model = AutoModelForMaskedLM.from_pretrained(model, attn_implementation="eager").to(device).eval()
        self.head = getattr(self.model, "lm_head", None) or self.model.cls
        self.sentence = Sentence(self.model)
        self.pad = self.model.config.pad_token_id
        with open(examples) as file:
            self.examples = [json.loads(line) for line in file]
        # What the loss does not reach (an untied head's spare bias) has no gradient.
        self.loss(self.batch(self.examples[:1])).backward()
        self.names = [n for n, p in self.model.named_parameters() if p.grad is not None]
        self.parameters = [p for p in self.model.parameters() if p.grad is not None]
        self.model.zero_grad(set_to_none=True)

    def batch(self, rows):
        return Batch(rows, self.pad)

    def logits(self, batch):
        hidden = self.model.base_model(batch.ids, attention_mask=batch.mask).last_hidden_state
        return self.head(hidden[batch.rows, batch.positions])

    def loss(self, batch):
        return torch.nn.functional.cross_entropy(self.logits(batch), batch.labels)

    def hutchinson(self, batch):
        gradients = torch.autograd.grad(self.loss(batch), self.parameters, create_graph=True)
        probe = [torch.randn_like(p) for p in self.parameters]
        products = torch.autograd.grad(gradients, self.parameters, probe)
        return sum((v * h).sum() for v, h in zip(probe, products)).item()

    @torch.no_grad()
    def draw(self, batch):
        return torch.multinomial(self.logits(batch).softmax(-1), 1)[:, 0]

    def loop(self, batch):
        labels = self.draw(batch)
        norms = []
        logits = self.logits(batch)
        losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none").split(batch.masked)
        for i, loss in enumerate(losses):
            last = i + 1 == len(losses)
            gradient = torch.autograd.grad(loss.sum(), self.parameters, retain_graph=not last)
            norms.append(sum((g * g).sum() for g in gradient))
        return torch.stack(norms).tolist()

    def vmap(self, batch):
        labels = torch.zeros_like(batch.by_sentence)
        labels[batch.weight > 0] = self.draw(batch)
        parameters = {f"model.{n}": p.detach() for n, p in zip(self.names, self.parameters)}

        def loss(parameters, ids, mask, positions, labels, weight):
            logits = functional_call(self.sentence, parameters, (ids, mask, positions))
            return (torch.nn.functional.cross_entropy(logits, labels, reduction="none") * weight).sum()

        def norm(*sentence):
            gradient = grad(loss)(parameters, *sentence)
            return sum((g * g).sum() for g in gradient.values())

        norms = vmap(norm, chunk_size=32)(batch.ids, batch.mask, batch.by_sentence, labels, batch.weight)
        return norms.tolist()


def run(order, model):
    (what, p), = order.items()
    if what == "load":
        model = Model(p["model"], p["examples"])
        return {"parameters": sum(x.numel() for x in model.parameters), "examples": len(model.examples)}, model
    choose = random.Random(p["seed"])
    torch.manual_seed(p["seed"])
    answer = {"estimates": [], "seconds": []} if what == "hutchinson" else {"squared_norms": [], "masked": [], "seconds": []}
    for _ in range(p["batches"]):
        rows = choose.sample(model.examples, min(p["batch"], len(model.examples)))
        wait()
        start = time.perf_counter()
        batch = model.batch(rows)
        if what == "hutchinson":
            answer["estimates"].append(model.hutchinson(batch))
        else:
            answer["squared_norms"].append(getattr(model, p["how"])(batch))
            answer["masked"].append(batch.masked)
        wait()
        answer["seconds"].append(time.perf_counter() - start)
    return answer, model


about = {
    "torch": torch.__version__, "transformers": transformers.__version__, "python": platform.python_version(),
    "threads": torch.get_num_threads(),
    "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
}
print(json.dumps(about), flush=True)
model = None
for line in sys.stdin:
    answer, model = run(json.loads(line), model)
    print(json.dumps(answer), flush=True)
