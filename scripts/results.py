#!/usr/bin/env python3
"""The tables of docs/results.md, as Markdown, from what `lowland report` left of sweeps.

    lowland report runs/mini/NAME ...                     # writes NAME/tables
    python3 scripts/results.py runs/mini/NAME ...         # prints everything
    python3 scripts/results.py --page docs/results.md docs/tables           # writes the page's tables anew
    python3 scripts/results.py --page docs/results.md docs/tables --check   # ends with 1 where one is not so

Of each sweep: its question, the tests of its plan with what they decide at 5 % (primary ones by Holm), and means over
seeds with their standard errors. `make results` runs the sweeps first, as far as they are not there.

On a page a table stands between `<!-- results: KIND; SWEEP; ... -->` and `<!-- end -->`. KIND is

    tests; SWEEP                              the tests of its plan
    models; SWEEP; STEPS; COLUMNS [; LABELS]  means over seeds; STEPS is `last`, `first` (behind 0), `all`, steps, or
                                              `pooled`, all of a label whatever their steps; COLUMNS keys of
                                              tables/models, LABELS those to be shown, between |
    gauges; SWEEP; COLUMNS                    differences from the same model in its own gauge, paired by seed; of a
                                              trace its mean
    rivals; SWEEP; OUTCOME TASK | ...         all measures: seconds a model, partial correlation with each outcome given
                                              the excess loss within the plan's knobs, 95 % interval, power
    ends; SWEEP; A less B | ...; COLUMNS      the last models of one label less those of another, paired by seed, with
                                              Student's 95 % interval; of traces their logarithms. Exploratory
"""

import json
import math
import pathlib
import re
import sys

# Column of tables/models: heading, digits.
COLUMNS = {
    "excess_loss": ("excess loss, nats", 4),
    "fisher_trace": ("Tr F", 1),
    "hessian_trace": ("Tr H", 1),
    "largest_eigenvalue": ("largest eigenvalue", 1),
    "trace_own": ("Tr F as trained", 1),
    "trace_duplicate": ("`duplicate`", 1),
    "trace_paper": ("`paper`", 1),
    "trace_balanced": ("least over the tables' scale", 1),
    "scale_free_trace": ("scale-free trace", 1),
    "balanced_trace": ("least over the tables' scale", 1),
    "balanced_trace_all": ("least over all scales", 1),
    "relative_flatness": ("relative flatness", 2),
    "trace_between": ("Tr F between groups", 1),
    "trace_within": ("within", 1),
    "noise_excess": ("the noise adds, nats", 4),
    "noise_excess_predicted": ("predicted", 4),
    "drift_slope": ("drift since the model before, over its prediction", 2),
    "drift_unexplained": ("unexplained", 3),
    "speed_drop": ("fall of Tr F behind the first interval", 1),
    "speed_drop_predicted": ("the same by speed", 1),
    "perturb_rise": ("rise under noise", 4),
    "lambda_q": ("λ_q", 1),
    "log_volume": ("log volume", 0),
}
OUTCOMES = [("excess_nats_", "excess nats, ", 4), ("forgetting_", "forgetting, ", 4), ("accuracy_", "", 1)]

# What tests name, in words.
WORDS = {
    "trace_own": "Tr F as trained",
    "trace_duplicate": "Tr F embedded by `duplicate`",
    "trace_paper": "Tr F embedded as in the paper's script",
    "trace_balanced": "least Tr F over the tables' scale",
    "fisher_trace": "Tr F",
    "hessian_trace": "Tr H",
    "largest_eigenvalue": "largest eigenvalue",
    "scale_free_trace": "scale-free trace",
    "balanced_trace": "least Tr F over the tables' scale",
    "relative_flatness": "relative flatness",
    "trace_between": "Tr F between groups",
    "trace_within": "Tr F within groups",
    "noise_excess": "what the noise adds, nats",
    "noise_excess_log_ratio": "what the noise adds over the law, ln",
    "drift_slope": "drift of balances over its prediction",
    "drift_log_slope": "drift of balances over its prediction, ln",
    "drift_unexplained": "drift left unexplained",
    "speed_ratio_less_one": "fall by speed over the measured one, less 1",
    "excess_nats": "excess nats",
    "excess_loss": "excess loss",
    "forgetting": "forgetting",
    "perturb_rise": "rise under noise",
    "noise_trace": "Tr of the noise",
    "lambda_q": "λ_q",
    "step": "steps",
    "noise_time": "Σ η² / B",
    "parameters": "parameters",
    "set.model.hidden_size": "width",
}


# What of a model's measurement a measure is found by.
PARTS = {"fisher_trace": "trace", "hessian_trace": "hessian_trace", "largest_eigenvalue": "top", "noise_trace": "noise",
         "scale_free_trace": "flatness", "balanced_trace": "flatness", "relative_flatness": "flatness",
         "perturb_rise": "perturb", "lambda_q": "volume"}

# Student's 97.5 % points.
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228,
           11: 2.201, 12: 2.179, 13: 2.160, 14: 2.145, 15: 2.131}
# Of these a difference is that of logarithms.
RATIOS = {key for key in COLUMNS if "trace" in key} | {"largest_eigenvalue", "relative_flatness"}


def words(key):
    return WORDS.get(key, f"`{key}`")


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


def costs(folder):
    """Seconds that the parts of a model's measurement took, which are no result and stand in a file of their own."""
    path = folder / "costs.json"
    if not path.is_file():
        return []
    parts = json.loads(path.read_text())
    said = [f"{part} {cost['median_seconds']:.1f}" for part, cost in parts.items()]
    return ["Seconds of a model's measurement, medians: " + ", ".join(said) + ".", ""]


def deciding(row):
    """The probability that decides."""
    if row["primary"]:
        return row["p_holm"]
    return row["p_equivalent"] if row["decide"] == "equivalence" else row["p"]


def decision(row):
    p = deciding(row)
    if p is None:
        return "not to be told"
    if p > 0.05:
        return "not shown"
    if row["decide"] == "equivalence":
        bound = row["smallest_effect"]
        return f"within a factor of {math.exp(bound):.2f}" if row["log"] else f"within ± {bound:g}"
    slope = row["test"] in ("slope", "partial", "pearson", "spearman", "kendall")
    return ("rises" if slope else "more") if row["value"] > 0 else ("falls" if slope else "less")


def asked(row):
    outcome = words(row["outcome"]) + (", ln" if row["log"] else "") + (f", {row['task']}" if row["task"] else "")
    over = {
        "slope": lambda: f"per doubling of {words(row['measure'])}",
        "difference": lambda: row["between"].replace(" | ", " less "),
        "mean": lambda: "mean",
    }.get(row["test"], lambda: f"{row['test']} with {words(row['measure'])}")()
    given = f", given {', '.join(words(key) for key in row['given'].split(', '))}" if row["given"] else ""
    within = f", within {row['within']}" if row["within"] else ""
    return f"{outcome}: {over}{given}{within}"


def tests(folder):
    rows = [row for row in read(folder, "effects")
            if row["smallest_effect"] is not None and row["reason"] != "not a test of a plan"]
    if not rows:
        return []
    head = ["kind", "outcome: test", "effect", "95 % interval", "smallest of interest", "power", "p", "decided"]
    lines = ["| " + " | ".join(head) + " |", "| --- | --- | ---: | --- | ---: | ---: | ---: | --- |"]
    for row in rows:
        kind = "primary" if row["primary"] else "secondary" if row["status"] == "registered" else row["status"]
        bound = ("± " if row["decide"] == "equivalence" else "") + f"{row['smallest_effect']:g}"
        if row["value"] is None:
            lines.append(f"| {kind} | {asked(row)} | too few models | | {bound} | | | |")
            continue
        interval = f"{number(row['low'])} to {number(row['high'])}" if row["low"] is not None else ""
        power = "" if row["power"] is None else f"{row['power']:.2f}"
        cells = [kind, asked(row), number(row["value"]), interval, bound, power, probability(deciding(row))]
        cells.append(decision(row))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def rivals(folder, outcomes):
    """A row a measure: what it costs, and its partial correlations with the outcomes."""
    rows = [row for row in read(folder, "effects") if row["test"] == "partial"]
    seconds = json.loads((folder / "costs.json").read_text())
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    measures.sort(key=lambda key: list(PARTS).index(key) if key in PARTS else len(PARTS))
    head = ["measure", "seconds"]
    for column, task in outcomes:
        head += [f"{words(column)}, {task}", "power"]
    lines = ["| " + " | ".join(head) + " |", "| --- | ---: |" + " ---: | ---: |" * len(outcomes)]
    for key in measures:
        part = seconds.get(PARTS.get(key, key))
        cells = [words(key), f"{part['median_seconds']:.1f}" if part else ""]
        for column, task in outcomes:
            found = [row for row in rows if (row["measure"], row["outcome"], row["task"]) == (key, column, task)]
            if not found or found[0]["value"] is None:
                cells += ["", ""]
                continue
            row = found[0]
            mark = "" if row["status"] == "registered" else "*"
            cells.append(f"{number(row['value'], 2)} ({number(row['low'], 2)} to {number(row['high'], 2)}){mark}")
            cells.append("" if row["power"] is None else f"{row['power']:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def finite(values):
    return [v for v in values if isinstance(v, (int, float)) and math.isfinite(v)]


def mean(values, digits, scale=1.0):
    values = [scale * v for v in finite(values)]
    if not values:
        return ""
    average = sum(values) / len(values)
    if len(values) == 1:
        return number(average, digits)
    variance = sum((v - average) ** 2 for v in values) / (len(values) - 1)
    error = math.sqrt(variance / len(values))
    # Rounding of one model counted several times is no error.
    error = 0.0 if error < 1e-9 * abs(average) else error
    return f"{number(average, digits)} ± {number(error, digits)}"


def heading(key):
    """A column's heading, digits and scale."""
    if key in COLUMNS:
        return (*COLUMNS[key], 1.0)
    for prefix, said, digits in OUTCOMES:
        if key.startswith(prefix):
            percent = prefix == "accuracy_"
            return said + key.removeprefix(prefix) + (", %" if percent else ""), digits, 100.0 if percent else 1.0
    return key, 3, 1.0


def columns_of(rows):
    ends = ("_standard_error", "_standard_deviation", "_sampling_error", "_fits", "_between_sets", "_within_sets")
    keys = list(COLUMNS)
    keys += [k for prefix, *_ in OUTCOMES for k in rows[0] if k.startswith(prefix) and not k.endswith(ends)]
    return [key for key in keys if finite(row.get(key) for row in rows)]


def models(folder, steps="all", columns=None, labels=None):
    rows = read(folder, "models")
    columns = columns or columns_of(rows)
    # Of a sweep of several sizes all but `conventions` and what has no scale is of the embedded model.
    embedded = any("enlarged" in row["parametrisation"] for row in rows)
    whole = ("fisher_trace", "hessian_trace", "largest_eigenvalue", "balanced_trace")
    shown = [heading(key) for key in columns]
    if embedded:
        shown = [(f"{said}, embedded" if key in whole else said, *more)
                 for key, (said, *more) in zip(columns, shown)]
    first = {}
    for row in rows:
        if row["step"] > 0:
            first[row["label"]] = min(row["step"], first.get(row["label"], row["step"]))
    wanted = {
        "all": lambda row: True,
        "pooled": lambda row: True,
        "last": lambda row: row["last"],
        "first": lambda row: row["step"] == first.get(row["label"]),
    }.get(steps, lambda row: str(row["step"]) in steps.split(" "))
    groups = {}
    for row in rows:
        if wanted(row) and (not labels or row["label"] in labels):
            step = None if steps == "pooled" else row["step"]
            groups.setdefault((row["label"], step), []).append(row)
    steps_differ = any(label == other and step != at for label, step in groups for other, at in groups)
    extra = ["step", "seeds"] if steps_differ else ["seeds"]
    lines = ["| | " + " | ".join(extra + [name for name, *_ in shown]) + " |",
             "| --- | " + " | ".join("---:" for _ in extra + columns) + " |"]
    for (label, step), own in groups.items():
        cells = [label, f"{step:,}"] if steps_differ else [label]
        cells += [str(len(own))]
        cells += [mean([row.get(key) for row in own], digits, scale) for key, (_, digits, scale) in zip(columns, shown)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def gauges(folder, columns):
    """Of models in other gauges the mean differences from their own, of traces the mean."""
    rows = [row for row in read(folder, "models") if row["last"]]
    labels = list(dict.fromkeys(row["label"] for row in rows))
    found = {(row["label"], row["seed"]): row for row in rows}
    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    shown = [heading(key) for key in columns]
    lines = ["| | " + " | ".join(name for name, *_ in shown) + " |",
             "| --- | " + " | ".join("---:" for _ in columns) + " |"]
    for label in labels:
        moved = re.fullmatch(r"(.*), (tables|residual|final_norm|query_key|value_output|balance)\b.*", label)
        base = moved[1] if moved and moved[1] in labels else None
        cells = [label]
        for key, (_, digits, scale) in zip(columns, shown):
            of = lambda label: [found.get((label, seed), {}).get(key) for seed in seeds]
            values = of(label)
            if key not in RATIOS:
                pairs = zip(values, of(base)) if base else []
                values = [a - b for a, b in pairs if a is not None and b is not None]
            cells.append(mean(values, digits, scale))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def ends(folder, pairs, columns):
    """Differences of the last models of two labels."""
    # Of a run the last row of each label: of models at one excess loss there is one, and the last of all is another's.
    found = {}
    for row in read(folder, "models"):
        key = (row["label"], row["seed"])
        if key not in found or row["step"] >= found[key]["step"]:
            found[key] = row
    seeds = list(dict.fromkeys(row["seed"] for row in found.values()))
    name = lambda key: words(key) + ", ln" if key in RATIOS else heading(key)[0]
    lines = ["| at the end | pairs | " + " | ".join(name(key) for key in columns) + " |",
             "| --- | ---: | " + " | ".join("---:" for _ in columns) + " |"]
    for pair in pairs:
        labels = pair.split(" less ")
        if len(labels) != 2 or any(all(label != l for l, _ in found) for label in labels):
            sys.exit(f"{folder} has no models of '{pair}'")
        cells, counts = [], set()
        for key in columns:
            differences = []
            for seed in seeds:
                one, other = (found.get((label, seed), {}).get(key) for label in labels)
                if one is not None and other is not None:
                    differences.append(math.log(one / other) if key in RATIOS else one - other)
            n = len(differences)
            average = sum(differences) / n
            error = math.sqrt(sum((d - average) ** 2 for d in differences) / (n - 1) / n)
            reach = STUDENT[n - 1] * error
            digits = 3 if key in RATIOS else 4
            counts.add(n)
            cells.append(f"{number(average, digits)} ({number(average - reach, digits)} to "
                         f"{number(average + reach, digits)})")
        lines.append("| " + " | ".join([pair, ", ".join(map(str, sorted(counts)))] + cells) + " |")
    return lines


def block(words_of, folder):
    kind, sweep, *rest = [word.strip() for word in " ".join(words_of.split()).split(";")]
    folder = folder / sweep
    keys = lambda text: [key.strip() for key in text.split(",")]
    if kind == "tests" and not rest:
        return tests(folder)
    if kind == "models" and len(rest) in (2, 3):
        labels = [label.strip() for label in rest[2].split("|")] if len(rest) == 3 else None
        return models(folder, rest[0], keys(rest[1]), labels)
    if kind == "rivals" and len(rest) == 1:
        pairs = [outcome.split(maxsplit=1) for outcome in rest[0].split("|")]
        return rivals(folder, [(column, task.strip()) for column, task in pairs])
    if kind == "gauges" and len(rest) == 1:
        return gauges(folder, keys(rest[0]))
    if kind == "ends" and len(rest) == 2:
        return ends(folder, [pair.strip() for pair in rest[0].split("|")], keys(rest[1]))
    sys.exit(f"<!-- results: {words_of} -->: no such table; see {sys.argv[0]} for what there is")


def figures(path, folder):
    """Copies the sweeps' figures that a page shows: `figures/NAME.png`, or `figures/NAME-SWEEP.png` where every sweep
    has one of that name."""
    shown = set(re.findall(r"\]\(figures/([^)]*\.png)\)", path.read_text()))
    for drawn in sorted(folder.glob("*/figures/*.png")):
        for name in (drawn.name, f"{drawn.stem}-{drawn.parent.parent.name}.png"):
            if name in shown:
                (path.parent / "figures" / name).write_bytes(drawn.read_bytes())
                shown.discard(name)
    if shown:
        sys.exit(f"{path} shows what no sweep in {folder} has drawn: {', '.join(sorted(shown))}")


def page(path, folder, check):
    text = path.read_text()
    pattern = re.compile(r"(<!-- results: (.*?) -->\n).*?(<!-- end -->)", re.S)
    made = lambda found: found[1] + "\n" + "\n".join(block(found[2], folder)) + "\n\n" + found[3]
    anew = pattern.sub(made, text)
    if check and anew != text:
        sys.exit(f"{path} is not what {folder} gives: python3 scripts/results.py --page {path} {folder}")
    if not check:
        path.write_text(anew)
        figures(path, folder)


def main():
    arguments = [a for a in sys.argv[1:] if a != "--check"]
    if len(arguments) == 3 and arguments[0] == "--page":
        return page(pathlib.Path(arguments[1]), pathlib.Path(arguments[2]), "--check" in sys.argv)
    if not arguments or arguments[0].startswith("-"):
        sys.exit(__doc__)
    for name in arguments:
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
        print("\n".join(tests(folder) + [""] + models(folder) + [""] + costs(folder)))
        for missing in table["missing"]:
            print(f"- missing: {missing['label']}, seed {missing['seed']}: {missing['reason']}")


main()
