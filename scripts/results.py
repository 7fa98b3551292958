#!/usr/bin/env python3
"""The tables of docs/results.md, as Markdown, from what `lowland report` left of sweeps.

    lowland report runs/mini/NAME ...        # writes NAME/tables
    python3 scripts/results.py runs/mini/NAME ...

Of each sweep: its question, the tests of its plan with what they decide at 5 % (primary ones by Holm), and means over
seeds with their standard errors. `make results` runs the sweeps first, as far as they are not there.
"""

import json
import math
import pathlib
import sys

# Column of tables/models, heading, digits.
COLUMNS = [
    ("excess_loss", "excess loss, nats", 4),
    ("fisher_trace", "Tr F", 1),
    ("hessian_trace", "Tr H", 1),
    ("largest_eigenvalue", "λ", 1),
    ("trace_own", "as trained", 1),
    ("trace_duplicate", "duplicate", 1),
    ("trace_paper", "paper", 1),
    ("trace_balanced", "balanced", 1),
    ("scale_free_trace", "scale-free", 1),
    ("relative_flatness", "relative", 2),
    ("trace_between", "Tr between", 1),
    ("trace_within", "Tr within", 1),
    ("noise_excess", "noise's excess", 4),
    ("noise_excess_predicted", "predicted", 4),
    ("drift_slope", "drift, slope", 2),
    ("speed_drop", "fall", 1),
    ("speed_drop_predicted", "predicted", 1),
]
OUTCOMES = [("excess_nats_", "excess nats, ", 4), ("forgetting_", "forgetting, ", 4), ("accuracy_", "", 1)]


def read(folder, name):
    path = folder / "tables" / f"{name}.json"
    if not path.is_file():
        sys.exit(f"{path} is not there: `lowland report {folder}` makes it, where {folder} has the table.json of a sweep")
    return json.loads(path.read_text())


def number(value, digits=3):
    if value is None:
        return ""
    # One digit of what is smaller than that.
    while digits < 12 and value != 0 and abs(value) < 0.5 * 10 ** -digits:
        digits += 1
    return f"{value:.{digits}f}"


def probability(p):
    return "" if p is None else ("< 0.001" if p < 0.001 else f"{p:.3f}")


def decision(row):
    p = row["p_holm"] if row["primary"] else None
    if p is None:
        p = row["p_equivalent"] if row["decide"] == "equivalence" else row["p"]
    if p is None:
        return "not to be told"
    shown = "equivalent" if row["decide"] == "equivalence" else "an effect"
    return shown if p <= 0.05 else "not shown"


def tests(folder):
    rows = [row for row in read(folder, "effects") if row["smallest_effect"] is not None]
    if not rows:
        return []
    head = ["", "outcome", "test", "effect", "95 % interval", "smallest of interest", "p", "decided"]
    lines = ["| " + " | ".join(head) + " |", "| --- | --- | --- | ---: | --- | ---: | ---: | --- |"]
    for row in rows:
        outcome = ("ln " if row["log"] else "") + row["outcome"] + (f", {row['task']}" if row["task"] else "")
        over = row["between"].replace(" | ", " less ") if row["between"] else row["measure"] or "mean"
        given = f", given {row['given']}" if row["given"] else ""
        within = f", within {row['within']}" if row["within"] else ""
        kind = "primary" if row["primary"] else "secondary" if row["status"] == "registered" else row["status"]
        if row["value"] is None:
            lines.append(f"| {kind} | {outcome} | {over}{given}{within} | too few models | | | | |")
            continue
        p = row["p_equivalent"] if row["decide"] == "equivalence" else row["p"]
        bound = ("± " if row["decide"] == "equivalence" else "") + number(row["smallest_effect"])
        interval = f"{number(row['low'])} to {number(row['high'])}" if row["low"] is not None else ""
        cells = [kind, outcome, f"{row['test']}, {over}{given}{within}", number(row["value"]), interval, bound,
                 probability(p), decision(row)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def mean(values, digits, scale=1.0):
    values = [scale * v for v in values if isinstance(v, (int, float)) and math.isfinite(v)]
    if not values:
        return ""
    average = sum(values) / len(values)
    if len(values) == 1:
        return number(average, digits)
    variance = sum((v - average) ** 2 for v in values) / (len(values) - 1)
    return f"{number(average, digits)} ± {number(math.sqrt(variance / len(values)), digits)}"


def models(folder):
    rows = read(folder, "models")
    columns = [(key, name, digits, 1.0) for key, name, digits in COLUMNS]
    for prefix, words, digits in OUTCOMES:
        ends = ("_standard_error", "_standard_deviation", "_sampling_error", "_fits", "_between_sets", "_within_sets")
        keys = [key for key in rows[0] if key.startswith(prefix) and not key.endswith(ends)]
        percent = 100.0 if prefix == "accuracy_" else 1.0
        unit = ", %" if prefix == "accuracy_" else ""
        columns += [(key, words + key.removeprefix(prefix) + unit, digits, percent) for key in keys]
    columns = [c for c in columns if any(isinstance(row.get(c[0]), (int, float)) for row in rows)]
    groups = {}
    for row in rows:
        groups.setdefault((row["label"], row["step"]), []).append(row)
    lines = ["| | step | seeds | " + " | ".join(name for _, name, _, _ in columns) + " |",
             "| --- | ---: | ---: | " + " | ".join("---:" for _ in columns) + " |"]
    for (label, step), own in groups.items():
        cells = [mean([row.get(key) for row in own], digits, scale) for key, _, digits, scale in columns]
        lines.append(f"| {label} | {step} | {len(own)} | " + " | ".join(cells) + " |")
    return lines


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for name in sys.argv[1:]:
        folder = pathlib.Path(name)
        if not (folder / "table.json").is_file():
            sys.exit(f"{folder} has no table.json: it is no folder of a sweep")
        table = json.loads((folder / "table.json").read_text())
        registration = table.get("registration")
        print(f"## {table['name']}\n")
        if registration:
            print(registration["plan"]["question"] + "\n")
            differs = registration["differs"]
            print("Registered.\n" if not differs else "Not as registered: " + "; ".join(differs) + "\n")
        print("\n".join(tests(folder) + [""] + models(folder) + [""]))
        for missing in table["missing"]:
            print(f"- missing: {missing['label']}, seed {missing['seed']}: {missing['reason']}")


main()
