"""Joins what bench/gpu.sh measured on a device, Google Benchmark's JSON of ours and PyTorch's, to a JSON and a table.

    gpu_report.py RAW OUT    RAW: the folder with kernels.json, models.json, torch_kernels.json, torch_models.json, as
                             far as there are, and stages/, how each stage ended; writes OUT/gpu-DATE-DEVICE.json
                             and .md. Exits with 5 when nothing was measured.

A ratio is the other's time divided by ours: above 1, ours is faster. "of ceiling" is our rate divided by the best of
cuBLAS in the same precision, or by that of the longest copy, in this run; what caches hold can be above 1. "target" is
what a row was to reach, in the unit of the column it is about, and whether it did: those of an H200.
"""

from __future__ import annotations

import datetime
import json
import re
import sys
from pathlib import Path

UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
BASELINES = ("cublas", "cudnn", "copy", "mma")


def read(path: Path, problems: list[str]) -> dict:
    """A JSON file, {} when there is none; of a list of rows that was cut off in the middle, those that are whole."""
    text = path.read_text(errors="replace") if path.exists() else ""
    if not text:
        return {}
    whole = text.rfind("},")
    for attempt, problem in ((text, ""), (text[: whole + 1] + "]}", "was cut off: what is whole of it is here")):
        try:
            found = json.loads(attempt)
        except json.JSONDecodeError:
            continue
        if isinstance(found, dict):
            problems += [f"{path.name} {problem}"] if problem else []
            return found
    problems.append(f"{path.name} cannot be read: nothing of it is here")
    return {}


def read_all(raw: Path, problems: list[str]) -> dict[str, dict]:
    """The four files by their names. What is not of the newest one's day and device is left out, and said."""
    names = ("kernels", "models", "torch_kernels", "torch_models")
    files = {name: read(raw / f"{name}.json", problems) for name in names}

    def origin(file: dict) -> tuple[str, str]:
        head = file.get("context", file)
        return head.get("date", "")[:10], head.get("device", "unknown device").split(",")[0]

    newest = max((origin(file) for file in files.values() if file), default=None)
    for name, file in files.items():
        if file and origin(file) != newest:
            problems.append(f"{name}.json is of {' on '.join(origin(file))}: left out")
            files[name] = {}
    return files


def rows_of(measured: dict) -> dict[str, dict]:
    """Rows of Google Benchmark's JSON by their name without suffixes."""
    rows = {}
    for run in measured.get("benchmarks", []):
        if run.get("run_type", "iteration") != "iteration":
            continue
        name = re.sub(r"/(iterations:\d+|manual_time|real_time)", "", run["name"])
        if run.get("error_occurred"):
            rows[name] = {"error": run.get("error_message", "failed")}
            continue
        row = {"seconds": run["real_time"] * UNITS[run["time_unit"]]}
        for counter in ("FLOP/s", "byte/s", "images/s"):
            if counter in run:
                row[counter] = run[counter]
        rows[name] = row
    return rows


def ceilings(rows: dict[str, dict]) -> dict[str, float]:
    """FLOP/s: cuBLAS's best in each precision. byte/s: the longest copy's, which no cache can hold."""
    best: dict[str, float] = {}
    longest = 0.0
    for name, row in rows.items():
        backend = name.rsplit("/", 1)[-1]
        if backend.startswith("cublas_") and "FLOP/s" in row:
            best[backend] = max(best.get(backend, 0), row["FLOP/s"])
        if backend.startswith("copy_") and row.get("seconds", 0) > longest:
            longest, best["copy"] = row["seconds"], row["byte/s"]
    return best


# (rows, precisions, column, at least, unit of the column in the text): attention at 0.9 of FlashAttention-2's published
# rates at head dimension 64 and length 1k, and aimed at 0.9 of the best of PyTorch's, which cuDNN's is one of.
TARGETS = (
    (r"attention/long_16x16x1024x64", "bf16", "FLOP/s", 0.9 * 300e12, 1e12),
    (r"attention_backward/long_16x16x1024x64", "bf16", "FLOP/s", 0.9 * 240e12, 1e12),
    (r"attention(_backward)?/long_.*", "bf16", "torch/own", 0.9, 1),
    (r"layer_norm(_backward)?/(65536x1024|16384x4096)", "fp32 bf16", "copy/own", 0.85, 1),
    (r"conv2d\w*/.*", "fp32 tf32 bf16", "cudnn/own", 0.8, 1),
    (r"base/forward(_graph)?/\d+", "bf16", "torch_compile/own", 1.0, 1),
)


def judge(lines: list[dict]) -> list[dict]:
    """The same lines, with the target where there is one: "copy/own 0.85 met", "missed" or "not measured"."""
    for line in lines:
        for rows, precisions, column, least, unit in TARGETS:
            if re.fullmatch(rows, line["name"]) and line["precision"] in precisions.split():
                ending = "not measured" if column not in line else "met" if line[column] >= least else "missed"
                one = f"{column} {least / unit:.4g}{'T' if unit > 1 else ''} {ending}"
                line["target"] = f"{line['target']}, {one}" if "target" in line else one
    return lines


def join_kernels(ours: dict[str, dict], theirs: dict[str, dict], best: dict[str, float]) -> list[dict]:
    joined = []
    for name, row in ours.items():
        work, _, backend = name.rpartition("/")
        if not backend.startswith("cuda_") or "seconds" not in row:
            continue
        precision = backend[len("cuda_") :]
        line = {"name": work, "precision": precision, **row}
        if "FLOP/s" in row and f"cublas_{precision}" in best:
            line["of_ceiling"] = row["FLOP/s"] / best[f"cublas_{precision}"]
        if "byte/s" in row and "copy" in best:
            line["of_ceiling"] = row["byte/s"] / best["copy"]
        for baseline in BASELINES:
            other = ours.get(f"{work}/{baseline}_{precision}", {})
            if "seconds" in other:
                line[f"{baseline}/own"] = other["seconds"] / row["seconds"]
        twin = theirs.get(name, {})
        if "seconds" in twin:
            line["torch/own"] = twin["seconds"] / row["seconds"]
            line["torch"] = twin["what"]
        joined.append(line)
    return joined


def join_models(ours: dict[str, dict], theirs: dict[str, dict]) -> list[dict]:
    joined = []
    for name, row in ours.items():
        match = re.fullmatch(r"(\w+)/(\w+?)(_graph)?/(\d+)/cuda_(\w+)", name)
        if not match or "seconds" not in row:
            continue
        model, work, graph, batch, precision = match.groups()
        line = {"name": f"{model}/{work}{graph or ''}/{batch}", "precision": precision, **row}
        for mode in ("eager", "compile", "compile_graph"):
            other = theirs.get(f"{model}/{work}/{batch}/{mode}_{precision}", {})
            if "seconds" in other:
                line[f"torch_{mode}/own"] = other["seconds"] / row["seconds"]
        joined.append(line)
    return joined


def table(lines: list[dict], columns: list[str]) -> list[str]:
    text = [
        "| " + " | ".join(["", "precision", "time", "rate", *columns, "target"]) + " |",
        "|---|---|" + "---:|" * (2 + len(columns)) + "---|",
    ]
    for line in lines:
        rate = ""
        for counter, scale, unit in (("FLOP/s", 1e12, "TFLOP/s"), ("byte/s", 1e9, "GB/s"), ("images/s", 1, "images/s")):
            if counter in line:
                rate = f"{line[counter] / scale:.1f} {unit}"
        cells = [f"{line[c]:.2f}" if c in line else "" for c in columns] + [line.get("target", "")]
        text.append(
            "| " + " | ".join([line["name"], line["precision"], f"{line['seconds'] * 1e3:.4f} ms", rate, *cells]) + " |"
        )
    return text


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    raw, out = Path(sys.argv[1]), Path(sys.argv[2])
    problems: list[str] = []
    files = read_all(raw, problems)
    kernels, models, torch_kernels, torch_models = files.values()
    stages = {path.name: path.read_text().strip() for path in sorted((raw / "stages").glob("*"))}
    for problem in problems:
        print(f"gpu_report.py: {problem}")
    ours, our_models = rows_of(kernels), rows_of(models)
    if not ours and not our_models:
        print(f"gpu_report.py: no measurements in {raw}")
        return 5
    context = kernels.get("context") or models.get("context", {})
    device = context.get("device", "unknown device")
    best = ceilings(ours)
    result = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": device,
        "torch": torch_kernels.get("torch") or torch_models.get("torch"),
        "stages": stages,
        "problems": problems,
        "ceilings": best,
        "kernels": judge(join_kernels(ours, torch_kernels.get("kernels", {}), best)),
        "models": judge(join_models(our_models, torch_models.get("models", {}))),
        "errors": {
            n: r["error"]
            for n, r in {
                **ours,
                **our_models,
                **torch_kernels.get("kernels", {}),
                **torch_models.get("models", {}),
            }.items()
            if "error" in r
        },
        "not_run": [f"PyTorch: {name}" for file in (torch_kernels, torch_models) for name in file.get("not_run", [])],
        "measured": {
            "kernels": ours,
            "models": our_models,
            "torch_kernels": torch_kernels,
            "torch_models": torch_models,
        },
    }
    name = re.sub(r"[^a-z0-9]+", "-", device.split(",")[0].lower()).strip("-")
    stem = f"gpu-{(context.get('date') or result['date'])[:10]}-{name}"
    (out / f"{stem}.json").write_text(json.dumps(result, indent=1) + "\n")
    text = [
        f"# {device}, {result['date']}, PyTorch {result['torch'] or 'not run'}",
        "",
        *__doc__.split("\n\n")[2].split("\n"),
        "",
    ]
    text += ["## Stages", "", *(f"- {stage}: {ending}" for stage, ending in stages.items())]
    text += [*(f"- {problem}" for problem in problems), ""]
    text += [f"Ceilings: {', '.join(f'{k} {v / 1e12:.3g} T/s' for k, v in sorted(best.items()))}", "", "## Models", ""]
    text += table(result["models"], ["torch_eager/own", "torch_compile/own", "torch_compile_graph/own"])
    text += ["", "## Kernels", ""]
    text += table(result["kernels"], ["of_ceiling", "cublas/own", "cudnn/own", "copy/own", "mma/own", "torch/own"])
    if result["errors"]:
        text += ["", "## Failed", "", *(f"- {name}: {error}" for name, error in result["errors"].items())]
    if result["not_run"]:
        text += ["", "## Not run", "", *(f"- {name}" for name in result["not_run"])]
    (out / f"{stem}.md").write_text("\n".join(text) + "\n")
    print(f"{out / stem}.json and .md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
