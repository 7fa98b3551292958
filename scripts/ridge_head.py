"""Records loss and gradient of the adversary's ridge head as released with Liu, Xie, Li, Ma 2023 (`merlin_linear` of
pretraining/modeling.py), in f64 by automatic differentiation: tests/fixtures/ridge_head.json.

    python scripts/ridge_head.py > tests/fixtures/ridge_head.json
"""

import json

import torch


def merlin_linear(features, labels, fit, classes=2):
    judged = features[fit:] / features[fit:].norm(dim=-1, keepdim=True)
    fitted = features[:fit] / features[:fit].norm(dim=-1, keepdim=True)
    kernel = torch.clamp(fitted @ fitted.T, -0.9999999, 0.9999999)
    test = torch.clamp(judged @ fitted.T, -0.9999999, 0.9999999)
    targets = torch.nn.functional.one_hot(labels, classes).to(features.dtype) - 1 / classes
    predicted = test @ torch.inverse(kernel + 0.001 * torch.eye(fit, dtype=features.dtype)) @ targets[:fit]
    return torch.nn.functional.mse_loss(predicted.view(-1), targets[fit:].view(-1))


def main():
    torch.manual_seed(0)
    cases = []
    for rows, width, repeat in [(16, 6, False), (32, 12, False), (24, 4, True)]:
        features = torch.randn(rows, width).double()
        labels = torch.randint(0, 2, (rows,))
        fit = rows // 8 * 7
        if repeat:
            # Equal rows, whose entries of both kernels the clamp holds.
            features[1] = features[0]
            features[fit] = features[2]
        features.requires_grad_()
        loss = merlin_linear(features, labels, fit)
        (gradient,) = torch.autograd.grad(loss, features)
        cases.append(
            {
                "features": features.detach().flatten().tolist(),
                "labels": labels.tolist(),
                "fit": fit,
                "loss": loss.item(),
                "gradient": gradient.flatten().tolist(),
            }
        )
    print(json.dumps(cases))


if __name__ == "__main__":
    main()
