"""Alternates promptiqa with PyTorch, ONNX Runtime and OpenVINO on one machine and compares their times.

One forward pass is: normalised images to image features, prompt fusion, scores; the prompt features are given. Every
library runs in a process of its own, loaded once. Passes are timed one process at a time, in turn, in an order that
rotates from round to round, while all others wait. A turn of a fast model is the median of several passes. One model,
batch size and precision at a time is in memory.

Standard library only; run.sh makes the environment that the workers need and calls this.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import math
import os
import platform
import queue
import re
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORKER = HERE / "worker.py"
SCRIPTS = (WORKER, HERE / "promptiqa_torch.py")  # what inputs and ONNX files are made by
PEERS = {
    "fp32": ["torch-fp32", "onnxruntime-fp32", "openvino-fp32"],
    "bf16": ["torch-autocast-bf16", "torch-bf16", "openvino-bf16"],
    "int8": ["openvino-bf16"],  # what of theirs needs no calibration data is in bf16 at best
}
MODELS = ("base", "compact")
SEED = 7
WARM_UPS = 2
TURN_SECONDS = 0.1  # a turn of a fast model has as many passes as fit, at most
MOST_PASSES = 15
PACKAGES = ("torch", "numpy", "safetensors", "onnx", "onnxscript", "onnxruntime", "openvino")
# The longest wait for one answer: loading, or eight images of the official size without vector instructions.
ANSWER_SECONDS = 1800
Line = dict[str, object]


class WorkerError(RuntimeError):
    """A process that stopped, stayed silent or reported an error."""


class UnavailableError(RuntimeError):
    """A library, or a precision of it, that cannot run here."""


def up_to_date(target: Path, *sources: Path) -> bool:
    """Whether `target` is there and no older than what it is made from."""
    return target.exists() and all(target.stat().st_mtime >= source.stat().st_mtime for source in sources)


# ---- processes ----------------------------------------------------------------------------------------------------


class Worker:
    """A process that answers in lines of JSON. Lines that are none (a library's chatter) are passed over."""

    def __init__(self, name: str, command: list[str], threads: int, log: Path) -> None:
        self.name, self.log = name, log
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
        with log.open("w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
            )
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def answer(self) -> Line:
        """The next line of JSON."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise WorkerError(f"{self.name}: no answer within {ANSWER_SECONDS} s") from None
            if line is None:
                raise WorkerError(f"{self.name}: ended with code {self.process.wait()}{self._last_words()}")
            if not line.startswith("{"):
                continue
            answer: Line = json.loads(line)
            if "unavailable" in answer:
                raise UnavailableError(f"{self.name}: {answer['unavailable']}")
            if "error" in answer:
                raise WorkerError(f"{self.name}: {answer['error']} (see {self.log})")
            return answer

    def _last_words(self) -> str:
        text = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f": {text[-1][:300]}" if text else ""

    def run(self) -> Line:
        """One forward pass."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write("run\n")
            self.process.stdin.flush()
        except OSError as error:
            raise WorkerError(f"{self.name}: it is gone{self._last_words()}") from error
        return self.answer()

    def cpu_seconds(self) -> float:
        """Processor time used so far; 0 where there is no /proc."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        if self.process.stdin:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def ask(name: str, command: list[str], threads: int, log: Path) -> Line:
    """The single answer of a process that does one thing."""
    worker = Worker(name, command, threads, log)
    try:
        return worker.answer()
    finally:
        worker.close()


# ---- the machine --------------------------------------------------------------------------------------------------


def cpu_info() -> Line:
    """Model name, family, number of processors and the instruction sets that matter here."""
    info: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            info.setdefault(name.strip(), value.strip())
    except OSError:
        pass
    flags = info.get("flags", "").split()
    wanted = ("fma", "avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16")
    return {
        "model": info.get("model name") or platform.processor() or platform.machine(),
        "family": info.get("cpu family"),
        "model_number": info.get("model"),
        "processors": os.cpu_count(),
        "instructions": [flag for flag in wanted if flag in flags],
    }


def circumstances(threads: int, runs: int) -> Line:
    """What every report says about when, where and how often."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "cpu": cpu_info(),
        "system": platform.platform(),
        "threads": threads,
        "runs": runs,
        "warm_ups": WARM_UPS,
        "load_average": load_average(),
        "versions": versions(),
    }


def memory_available_mb() -> float:
    """What may be allocated without swapping; infinite where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return float("inf")


def load_average() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


# ---- timing -------------------------------------------------------------------------------------------------------


@dataclass
class Timed:
    """What one library did for one model, precision and batch size."""

    name: str
    worker: Worker
    start: Line = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)  # one value a turn
    score: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    passes: int = 1  # in a turn
    waited_s: float = 0.0  # while another was timed,
    waited_cpu_s: float = 0.0  # and the processor time used meanwhile

    def pass_once(self) -> float:
        """Seconds of one pass."""
        answer = self.worker.run()
        self.score = [float(s) for s in answer["score"]]
        self.peak_mb = float(answer["peak_mb"])
        return float(answer["seconds"])

    def warm_up(self) -> None:
        for _ in range(WARM_UPS):
            seconds = self.pass_once()
        if seconds < TURN_SECONDS:
            self.passes = min(MOST_PASSES, 1 + math.ceil(TURN_SECONDS / seconds))

    def take_turn(self) -> None:
        """A slow model: one pass. A fast one: several, the median of all but the first, which finds cold caches."""
        passes = [self.pass_once() for _ in range(self.passes)]
        self.seconds.append(statistics.median(passes[1:] or passes))

    def idle_cpu(self) -> float | None:
        """Processor seconds per second of waiting; None when too short to tell (the kernel counts hundredths)."""
        return round(self.waited_cpu_s / self.waited_s, 3) if self.waited_s > 0.5 else None

    def summary(self, expected: list[float]) -> Line:
        return {
            **{key: self.start[key] for key in ("load_s", "first_s", "merging_s", "backend") if key in self.start},
            "median_s": statistics.median(self.seconds),
            "min_s": min(self.seconds),
            "max_s": max(self.seconds),
            "seconds": self.seconds,
            "peak_mb": round(self.peak_mb),
            "passes_a_turn": self.passes,
            "idle_cpu": self.idle_cpu(),
            "score": self.score,
            "max_score_diff": max(abs(a - b) for a, b in zip(self.score, expected, strict=True)),
        }


def time_in_turn(timed: list[Timed], runs: int, settle: float) -> None:
    """Warm-ups, then `runs` turns each, beginning with another library each round."""
    for one in timed:
        one.warm_up()
    for round_number in range(runs):
        shift = round_number % len(timed)
        for one in timed[shift:] + timed[:shift]:
            time.sleep(settle)  # thread pools that spin a while after their work have stopped by then
            waiting = [other for other in timed if other is not one]
            before = [other.worker.cpu_seconds() for other in waiting]
            start = time.monotonic()
            one.take_turn()
            elapsed = time.monotonic() - start
            for other, cpu in zip(waiting, before, strict=True):
                other.waited_s += elapsed
                other.waited_cpu_s += other.worker.cpu_seconds() - cpu


def highest(a: Line, b: Line) -> Line:
    """Of two measured peaks, rate by rate the higher: something else may have been running during the other."""
    return {key: max(a[key], b[key]) if key.endswith("_gflop_s") and a[key] is not None else a[key] for key in a}


@dataclass
class Bench:
    options: argparse.Namespace
    work: Path
    ours: Path

    def log(self, name: str) -> Path:
        return self.work / f"{name}.log"

    def python(self, *arguments: object) -> list[str]:
        return [sys.executable, str(WORKER), *map(str, arguments)]

    def peak(self) -> Line:
        """GFLOP/s of nothing but multiply-adds on all threads."""
        threads = self.options.threads
        return ask("peak", [str(self.ours), "peak", str(threads)], threads, self.log("peak"))

    def weights(self, model: str) -> Path:
        """The model's seeded weights, made when they are not there."""
        weights = self.work / f"{model}.safetensors"
        if not weights.exists():
            note(f"making weights: {model}")
            command = [str(self.ours), "make", str(weights), model, str(SEED)]
            ask("make", command, self.options.threads, self.log("make"))
        return weights

    def prepare(self, model: str, batch: int) -> tuple[Path, Path, Path, list[float]]:
        """Weights, inputs and ONNX of one model, made when they are not there, and the scores to expect."""
        weights = self.weights(model)
        io = self.work / f"{model}-b{batch}-io.safetensors"
        scores = self.work / f"{model}-b{batch}-scores.json"
        onnx = self.work / f"{model}-b{batch}.onnx"
        threads = self.options.threads
        if not (io.exists() and up_to_date(scores, weights, *SCRIPTS)):
            note(f"making inputs and float64 scores: {model}, batch {batch}")
            command = self.python("inputs", weights, io, batch, SEED)
            scores.write_text(json.dumps(ask("inputs", command, threads, self.log("inputs"))["score"]), "utf-8")
        return weights, io, onnx, json.loads(scores.read_text("utf-8"))

    def export(self, weights: Path, io: Path, onnx: Path) -> None:
        done = onnx.with_suffix(".done")  # an export that was cut short leaves no such mark
        if not up_to_date(done, weights, *SCRIPTS):
            note(f"exporting {onnx.name}")
            ask("export", self.python("export", weights, io, onnx), self.options.threads, self.log("export"))
            done.touch()

    def group(self, model: str, precision: str, batch: int) -> list[Line]:
        """Times promptiqa and its peers of one precision; one result for each peer."""
        peers = [p for p in PEERS[precision] if not self.options.peers or p in self.options.peers]
        weights, io, onnx, expected = self.prepare(model, batch)
        problems: dict[str, str] = {}
        threads = self.options.threads
        if any(not p.startswith("torch") for p in peers):
            try:
                self.export(weights, io, onnx)
            except (WorkerError, UnavailableError) as error:
                problems = {p: f"no ONNX file: {error}" for p in peers if not p.startswith("torch")}
                note(f"  export failed: {error}")
        ours = [self.ours, "serve", weights, io, threads, "--precision", precision]
        commands = {"promptiqa": [str(part) for part in ours]}
        commands |= {p: self.python("serve", p, weights, io, onnx, threads) for p in peers if p not in problems}

        # All at once where they fit, else promptiqa with one peer at a time.
        need_mb = len(commands) * (2.5 * weights.stat().st_size / 1e6 + 300 + 40 * batch)
        together = need_mb < memory_available_mb()
        others = [name for name in commands if name != "promptiqa"]
        parts = [others] if together else [[name] for name in others]
        if not together:
            note(f"  about {need_mb / 1000:.0f} GB for all at once, not available: in pairs")
        results: list[Line] = []
        label = f"{model}-{precision}-b{batch}"
        for part in parts:
            results += self.timed_part(["promptiqa", *part], commands, expected, problems, label)
        base = {"model": model, "precision": precision, "batch": batch}
        failed = [{"peer": name, "problem": problem} for name, problem in problems.items()]
        return [{**base, **result} for result in results + failed]

    def timed_part(
        self,
        names: list[str],
        commands: dict[str, list[str]],
        expected: list[float],
        problems: dict[str, str],
        label: str,
    ) -> list[Line]:
        """Starts the named processes, times them in turn and ends them. Those that cannot run go into `problems`."""
        timed: list[Timed] = []
        try:
            for name in names:
                log = self.log(f"{label}-{name}")
                one = Timed(name, Worker(name, commands[name], self.options.threads, log))
                timed.append(one)
                try:
                    while "ready" not in one.start:
                        one.start.update(one.worker.answer())
                except (WorkerError, UnavailableError) as error:
                    problems[name] = str(error).removeprefix(f"{name}: ")
                    note(f"  {error}")
                    timed.pop().worker.close()
            note(f"  in turn: {', '.join(one.name for one in timed)}")
            if timed:
                time_in_turn(timed, self.options.runs, self.options.settle)
                medians = (f"{one.name} {milliseconds(statistics.median(one.seconds))}" for one in timed)
                note(f"  medians, ms: {', '.join(medians)}")
        finally:
            for one in timed:
                one.worker.close()
        ours = next((one for one in timed if one.name == "promptiqa"), None)
        own = ours.summary(expected) if ours else None
        results: list[Line] = []
        for one in timed:
            if one is ours:
                continue
            theirs = one.summary(expected)
            result: Line = {"peer": one.name, **theirs, "promptiqa": own}
            if ours and own:
                result["ratio"] = own["median_s"] / theirs["median_s"]
                rounds = zip(ours.seconds, one.seconds, strict=True)
                result["ratio_of_rounds"] = statistics.median(a / b for a, b in rounds)
            results.append(result)
        if len(timed) == 1 and own:
            results.append({"peer": None, "promptiqa": own})
        return results


# ---- the report ---------------------------------------------------------------------------------------------------


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def milliseconds(seconds: object) -> str:
    value = 1000 * float(seconds)
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def table(report: Line) -> str:
    """The results as Markdown."""
    cpu, peak = report["cpu"], report["peak"]
    rates = [f"{name} {peak[f'{name}_gflop_s']:.0f} GFLOP/s" for name in PEERS if peak.get(f"{name}_gflop_s")]
    names = ("torch", "onnxruntime", "openvino")
    libraries = ", ".join(f"{n} {report['versions'][n]}" for n in names if report["versions"].get(n))
    lines = [
        f"{report['date']}, {cpu['model']} (family {cpu['family']}, model {cpu['model_number']}), "
        f"{report['threads']} threads, {report['runs']} runs each, in turn; load average before: "
        f"{report['load_average']}.",
        f"Measured multiply-add peak: {', '.join(rates) or 'not measured'}. {libraries}.",
        "",
        "| model | precision | batch | peer | median ms | min | max | ours median | ratio ours/peer "
        "| score diff, peer / ours |",
        "|---|---|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for r in report["results"]:
        own = r.get("promptiqa") or {}
        ours = milliseconds(own["median_s"]) if own else "-"
        own_diff = f"{own['max_score_diff']:.1e}" if own else "-"
        start = f"| {r['model']} | {r['precision']} | {r['batch']} | "
        if "median_s" in r:
            times = " | ".join(milliseconds(r[key]) for key in ("median_s", "min_s", "max_s"))
            ratio = f"{r['ratio']:.2f}" if "ratio" in r else "-"
            lines.append(f"{start}{r['peer']} | {times} | {ours} | {ratio} | {r['max_score_diff']:.1e} / {own_diff} |")
        elif own:
            lines.append(f"{start}none | - | - | - | {ours} | - | - / {own_diff} |")
        else:
            lines.append(f"{start}{r['peer']}: {r['problem'].replace('|', '/')} | - | - | - | - | - | - |")
    return "\n".join(lines) + "\n"


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "cpu"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    every_peer = [peer for peers in PEERS.values() for peer in peers]

    def listed(choices: list[str]):
        def split(text: str) -> list[str]:
            values = [value for value in text.split(",") if value]
            wrong = [value for value in values if value not in choices]
            if wrong or not values:
                raise argparse.ArgumentTypeError(f"'{','.join(wrong)}': choose from {','.join(choices)}")
            return values

        return split

    def positive(text: str) -> int:
        value = int(text)
        if value < 1:
            raise argparse.ArgumentTypeError("must be at least 1")
        return value

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ours", type=Path, required=True, help="program bench_peers_ours (run.sh gives it)")
    parser.add_argument("--work", type=Path, required=True, help="folder of weights, ONNX, logs (run.sh gives it)")
    parser.add_argument("--models", type=listed(list(MODELS)), default=list(MODELS), help="base,compact")
    parser.add_argument("--precisions", type=listed(list(PEERS)), default=list(PEERS), help="fp32,bf16,int8")
    parser.add_argument("--batches", type=lambda t: [positive(v) for v in t.split(",")], default=[1, 8], help="1,8")
    parser.add_argument("--peers", type=listed(every_peer), default=None, help=",".join(every_peer))
    parser.add_argument("--runs", type=positive, default=15, help="timed turns of each process (15)")
    parser.add_argument("--threads", type=positive, default=os.cpu_count() or 1, help="of each library (all)")
    parser.add_argument("--settle", type=float, default=0.2, help="seconds of rest before each turn (0.2)")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results", help="folder of the report")
    parser.add_argument("--tag", default="", help="put at the end of the report's name, e.g. -batch8")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse()
    if not os.access(options.ours, os.X_OK):
        note(f"run.py: '{options.ours}' is not there or no program: build the target bench_peers_ours")
        return 2
    options.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(options, options.work.resolve(), options.ours.resolve())
    report: Line = {
        **circumstances(options.threads, options.runs),
        "settle_s": options.settle,
        "weights": f"seeded, seed {SEED}",
        "peak": bench.peak(),
        "peaks": [],
        "results": [],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / f"peers-{report['date']}-{slug(str(report['cpu']['model']))}{options.tag}.json"
    for batch in options.batches:
        for model in options.models:
            for precision in options.precisions:
                note(f"{model}, batch {batch}, {precision}")
                try:
                    report["results"] += bench.group(model, precision, batch)
                except (WorkerError, UnavailableError) as failure:  # the other groups may still do
                    note(f"  {failure}")
                    where = {"model": model, "precision": precision, "batch": batch}
                    report["results"].append({**where, "peer": "all", "problem": str(failure)})
                # After every group, so that a run cut short leaves what it has.
                report["peaks"].append(bench.peak())
                report["peak"] = highest(report["peak"], report["peaks"][-1])
                target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
                target.with_suffix(".md").write_text(table(report), encoding="utf-8")
    print(table(report))
    note(f"written: {target} and {target.with_suffix('.md').name}")
    busy = sorted({r["peer"] for r in report["results"] if (r.get("idle_cpu") or 0) > 0.05})
    if busy:
        note(f"warning: busy while they should have waited: {', '.join(busy)}; try a larger --settle")
    missing = sum("problem" in result for result in report["results"])
    if missing:
        note(f"run.py: not measured: {missing} of {len(report['results'])}; the table says why")
    return 1 if missing else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (WorkerError, UnavailableError) as failure:
        note(f"run.py: {failure}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
