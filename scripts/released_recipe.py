"""Records what transformers and PyTorch say of the released recipe's options, in f64, for tests/model/recipe.rs:
the probe's learning rates, representations of padded sentences, and the gradient through a pooler.

    python scripts/released_recipe.py > tests/fixtures/recipe.json
"""

import json
import pathlib

import torch
from transformers import AutoModelForMaskedLM, get_polynomial_decay_schedule_with_warmup

FIXTURES = pathlib.Path(__file__).parent.parent / "tests" / "fixtures"
# Words by number; `<s>` 0, `<pad>` 1, `</s>` 2, then the mask token, as in models that are trained here.
SENTENCES = [[0], [3, 1, 2], [5, 5, 0, 6, 2, 1]]
LENGTH = 10
CLASSES = 3


def rates(lr, warmup, steps):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=lr)
    schedule = get_polynomial_decay_schedule_with_warmup(optimizer, warmup, steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return {"lr": lr, "warmup": warmup, "steps": steps, "rates": found}


def encoder(name):
    model = AutoModelForMaskedLM.from_pretrained(FIXTURES / name).double().eval()
    return next(child for child_name, child in model.named_children() if child_name not in ("lm_head", "cls"))


def batch(name, length):
    ids = torch.ones(len(SENTENCES), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, words in enumerate(SENTENCES):
        tokens = [0] + [4 + w for w in words] + [2]
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    # One after another, also over padding; RoBERTa's begin behind the padding token's id.
    first = 2 if name.startswith("roberta") else 0
    positions = (torch.arange(length) + first).expand_as(ids)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions}


def padded(name):
    with torch.no_grad():
        hidden = encoder(name)(**batch(name, LENGTH)).last_hidden_state
    return {"model": name, "length": LENGTH, "features": hidden[:, 1:-1].flatten().tolist()}


def pooled(name):
    torch.manual_seed(1)
    model = encoder(name)
    width = model.config.hidden_size
    pooler, classifier = torch.nn.Linear(width, width).double(), torch.nn.Linear(width, CLASSES).double()
    # Rounded to f32, which is what a model holds.
    for layer in (pooler, classifier):
        for parameter in layer.parameters():
            parameter.data = (parameter.data * 2).float().double()
    hidden = model(**batch(name, LENGTH)).last_hidden_state[:, 0]
    logits = classifier(torch.tanh(pooler(hidden)))
    labels = torch.arange(len(SENTENCES)) % CLASSES
    loss = torch.nn.functional.cross_entropy(logits, labels)
    loss.backward()
    tensors = {
        "pooler.dense.weight": pooler.weight,
        "pooler.dense.bias": pooler.bias,
        "classifier.weight": classifier.weight,
        "classifier.bias": classifier.bias,
    }
    weights = {key: value.detach().flatten().tolist() for key, value in tensors.items()}
    prefix = {"roberta": "roberta_prelayernorm", "bert": "bert"}[name.split("-")[0]]
    for key, value in model.named_parameters():
        if "layer.0.attention.self.query" in key or "word_embeddings" in key:
            tensors[f"{prefix}.{key}"] = value
    gradients = {key: value.grad.flatten().tolist() for key, value in tensors.items()}
    return {"model": name, "loss": loss.item(), "weights": weights, "gradients": gradients}


def main():
    names = ["roberta-20", "bert-24"]
    recorded = {
        "sentences": SENTENCES,
        "schedules": [rates(1e-3, 50, 120), rates(0.02, 0, 7), rates(1e-3, 10, 12)],
        "padded": [padded(name) for name in names],
        "pooled": [pooled(name) for name in names],
    }
    print(json.dumps(recorded))


if __name__ == "__main__":
    main()
