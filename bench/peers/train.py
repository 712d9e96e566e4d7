"""Alternates whole training steps of promptiqa and PyTorch on one machine and compares their times.

A step is the compact model on 44 images under three requirements: see train_torch.py. Processes take turns as in run.py.
"run.sh train" makes the environment and calls this.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import run

PEERS = {"fp32": ["torch-fp32"], "bf16": ["torch-autocast-bf16"]}
WORKER = run.HERE / "train_torch.py"


def table(report: run.Line) -> str:
    """The results as Markdown."""
    cpu = report["cpu"]
    lines = [
        f"{report['date']}, {cpu['model']} (family {cpu['family']}, model {cpu['model_number']}), {report['threads']} "
        f"threads, {report['runs']} steps each, in turn; load average before: {report['load_average']}. "
        f"torch {report['versions']['torch']}.",
        "One step: compact, 44 images, 3 requirements, forward, backward, clipping, AdamW, moving average.",
        "",
        "| precision | peer | median ms | min | max | ours median | min | max | peer/ours | peak MB, peer / ours "
        "| loss after all steps, peer / ours |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for r in report["results"]:
        if "problem" in r:
            lines.append(f"| {r['precision']} | {r['peer']}: {r['problem'].replace('|', '/')} |" + " - |" * 9)
            continue
        own = r["promptiqa"]
        times = [run.milliseconds(side[key]) for side in (r, own) for key in ("median_s", "min_s", "max_s")]
        lines.append(
            f"| {r['precision']} | {r['peer']} | {' | '.join(times)} | {1 / r['ratio']:.2f} "
            f"| {r['peak_mb']} / {own['peak_mb']} | {r['score'][0]:.4f} / {own['score'][0]:.4f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ours", type=Path, required=True, help="program bench_peers_ours (run.sh gives it)")
    parser.add_argument("--ours-train", type=Path, required=True, help="program bench_peers_train (run.sh gives it)")
    parser.add_argument("--work", type=Path, required=True, help="folder of weights and logs (run.sh gives it)")
    parser.add_argument("--runs", type=int, default=15, help="timed steps of each process (15)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of each library (all)")
    parser.add_argument("--settle", type=float, default=0.2, help="seconds of rest before each step (0.2)")
    parser.add_argument("--out", type=Path, default=run.HERE.parent / "results", help="folder of the report")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    bench = run.Bench(options, options.work.resolve(), options.ours.resolve())
    threads = options.threads
    report: run.Line = {**run.circumstances(threads, options.runs), "results": []}
    weights, io = bench.weights("compact"), bench.work / "train-io.safetensors"
    python = [sys.executable, str(WORKER)]
    run.ask("make", [*python, "make", str(weights), str(io), str(run.SEED)], threads, bench.log("train-make"))
    options.out.mkdir(parents=True, exist_ok=True)
    for precision, peers in PEERS.items():
        ours = [str(options.ours_train.resolve()), str(weights), str(io), str(threads), precision]
        commands = {"promptiqa": ours}
        commands |= {peer: [*python, "serve", peer, str(weights), str(io), str(threads)] for peer in peers}
        problems: dict[str, str] = {}
        # A loss is nothing to compare with: dropout differs. It is in the report to show that both learn.
        results = bench.timed_part(list(commands), commands, [0.0], problems, f"train-{precision}")
        results = [r for r in results if r.get("peer")]
        results += [{"peer": name, "problem": problem} for name, problem in problems.items()]
        report["results"] += [{"precision": precision, **r} for r in results]
    target = options.out / f"training-{report['date']}-{run.slug(str(report['cpu']['model']))}.json"
    target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    target.with_suffix(".md").write_text(table(report), encoding="utf-8")
    print(table(report))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (run.WorkerError, run.UnavailableError) as failure:
        run.note(f"train.py: {failure}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
