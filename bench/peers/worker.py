"""One library in one process: loads the model, then does one forward pass for every line "run" on standard input.

    worker.py inputs WEIGHTS IO BATCH SEED       writes images, prompt features and float64 scores
    worker.py export WEIGHTS IO ONNX             writes the ONNX file that onnxruntime and openvino read
    worker.py serve PEER WEIGHTS IO ONNX THREADS

`serve` prints one JSON line after loading, one when it is ready (after its first pass) and one for every "run", as
bench_peers_ours does. What stops it is printed as {"error": ...}, a missing package or instruction as
{"unavailable": ...}. run.py drives all this.
"""

from __future__ import annotations

import contextlib
import json
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Forward = Callable[[], list[float]]
Arrays = dict[str, Any]  # name -> numpy array


class UnavailableError(RuntimeError):
    """A package or an instruction set that is not there."""


def say(**line: object) -> None:
    """Prints one line of the protocol."""
    print(json.dumps(line), flush=True)


@contextlib.contextmanager
def packages():
    """Turns a failed import inside into a message that says what to do."""
    try:
        yield
    except ImportError as error:
        name = error.name or str(error)
        raise UnavailableError(f"no Python package '{name}' (pip install {name}): {error}") from error


def peak_mb() -> float:
    """The most memory this process ever held."""
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage / 1e6 if sys.platform == "darwin" else usage * 1024 / 1e6


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 (AVX-512 or AMX). Without it libraries emulate or fall back."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return True  # not Linux: let the library try
    return "avx512_bf16" in flags or "amx_bf16" in flags or "bf16" in flags


def read_arrays(path: str) -> Arrays:
    from safetensors.numpy import load_file

    return load_file(path)


# ---- the libraries ------------------------------------------------------------------------------------------------


def torch_forward(kind: str, weights: str, io: Arrays, threads: int) -> tuple[str, Forward]:
    """PyTorch eager: "fp32", "bf16" (weights and activations) or "autocast-bf16" (fp32 weights, products in bf16)."""
    import torch

    from promptiqa_torch import load

    torch.set_num_threads(threads)
    model = load(weights)
    image, prompts = torch.from_numpy(io["image"]), torch.from_numpy(io["prompt_features"])
    if kind == "bf16":
        model, image, prompts = model.bfloat16(), image.bfloat16(), prompts.bfloat16()
    autocast = kind == "autocast-bf16"

    def forward() -> list[float]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return model(image, prompts).float().tolist()

    return torch.__version__, forward


def onnxruntime_forward(onnx: str, io: Arrays, threads: int) -> tuple[str, Forward]:
    """ONNX Runtime's CPU provider in fp32, default settings but for the number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    feed = {"image": io["image"], "prompt_features": io["prompt_features"]}
    return onnxruntime.__version__, lambda: session.run(None, feed)[0].tolist()


def openvino_forward(precision: str, onnx: str, io: Arrays, threads: int) -> tuple[str, Forward]:
    """OpenVINO's CPU plugin with the latency hint, in "f32" or "bf16"; default threading but for the number."""
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(onnx), "CPU", settings)
    used = str(compiled.get_property("INFERENCE_PRECISION_HINT"))
    if precision == "bf16" and "bfloat16" not in used and "bf16" not in used:
        raise UnavailableError(f"the plugin computes in {used} instead")
    feed = {"image": io["image"], "prompt_features": io["prompt_features"]}
    request = compiled.create_infer_request()
    return openvino.__version__, lambda: request.infer(feed)[0].tolist()


def build(peer: str, weights: str, io: Arrays, onnx: str, threads: int) -> tuple[str, Forward]:
    """The version and the forward pass of a peer, named library-precision."""
    if peer.endswith("bf16") and not cpu_has_bf16():
        raise UnavailableError("this processor has no bfloat16 instructions")
    library, _, kind = peer.partition("-")
    if library == "torch" and kind in ("fp32", "bf16", "autocast-bf16"):
        return torch_forward(kind, weights, io, threads)
    if library == "onnxruntime" and kind == "fp32":
        return onnxruntime_forward(onnx, io, threads)
    if library == "openvino" and kind in ("fp32", "bf16"):
        return openvino_forward({"fp32": "f32", "bf16": "bf16"}[kind], onnx, io, threads)
    raise ValueError(f"unknown peer '{peer}'")


# ---- modes --------------------------------------------------------------------------------------------------------


def serve(peer: str, weights: str, io_file: str, onnx: str, threads: int) -> None:
    with packages():
        io = read_arrays(io_file)
        start = time.perf_counter()
        version, forward = build(peer, weights, io, onnx, threads)
    say(load_s=time.perf_counter() - start, version=version, threads=threads)
    start = time.perf_counter()
    forward()
    say(ready=True, first_s=time.perf_counter() - start)
    for line in sys.stdin:
        if line.strip() != "run":
            raise ValueError(f"expected the line 'run', got {line!r}")
        start = time.perf_counter()
        score = forward()
        seconds = time.perf_counter() - start
        if not all(math.isfinite(s) for s in score):
            raise FloatingPointError(f"{peer}: a score is not finite: {score}")
        say(seconds=seconds, score=score, peak_mb=peak_mb())


def make_inputs(weights: str, io_file: str, batch: int, seed: int) -> None:
    """Smooth random images, prompt features of ten pairs, and the scores PyTorch computes for them in float64."""
    with packages():
        import torch
        from safetensors.torch import save_file

        from promptiqa_torch import load, read_config

    config = read_config(weights)
    generator = torch.Generator().manual_seed(seed)
    # Patches of uniform noise, coarse for the first image and finer for each that follows: images that differ.
    images = []
    for index in range(batch):
        cells = min(config.image_size, 4 << min(index % 8, 5))
        noise = torch.rand(1, config.in_chans, cells, cells, generator=generator) * 2 - 1
        size = (config.image_size, config.image_size)
        images.append(torch.nn.functional.interpolate(noise, size=size, mode="bilinear", align_corners=False))
    image = torch.cat(images)
    prompts = torch.randn(10, config.prompt_dim, generator=generator)
    with torch.inference_mode():
        model = load(weights).double()
        score = torch.cat([model(one.double(), prompts.double()) for one in image.split(1)])
    if not torch.isfinite(score).all():
        raise FloatingPointError(f"{weights}: a score is not finite")
    save_file({"image": image, "prompt_features": prompts, "score": score}, io_file)
    say(file=io_file, score=score.tolist())


def export(weights: str, io_file: str, onnx_file: str) -> None:
    """The model as ONNX with the batch size of `io_file`; the large weights lie in a file beside it."""
    with packages():
        import onnx  # noqa: F401  (the exporter needs both: fail here, with their names)
        import onnxscript  # noqa: F401
        import torch

        from promptiqa_torch import load

    io = read_arrays(io_file)
    inputs = (torch.from_numpy(io["image"]), torch.from_numpy(io["prompt_features"]))
    with torch.inference_mode(), contextlib.redirect_stdout(sys.stderr):  # the exporter reports its progress
        torch.onnx.export(
            load(weights),
            inputs,
            onnx_file,
            dynamo=True,
            external_data=True,
            input_names=["image", "prompt_features"],
            output_names=["score"],
        )
    say(file=onnx_file)


def run_mode(modes: dict[str, tuple[int, Callable[..., None]]], arguments: list[str], usage: str | None) -> int:
    """Calls the mode that arguments[0] names with the others, of which it takes so many; reports what stops it."""
    if not arguments or arguments[0] not in modes or len(arguments) - 1 != modes[arguments[0]][0]:
        print(usage, file=sys.stderr)
        return 2
    try:
        modes[arguments[0]][1](*arguments[1:])
    except UnavailableError as error:
        say(unavailable=str(error))
    except Exception as error:  # the driver has to hear about every failure; the traceback goes to the log
        say(error=f"{type(error).__name__}: {error}".splitlines()[0][:300])
        raise
    return 0


def main(arguments: list[str]) -> int:
    modes: dict[str, tuple[int, Callable[..., None]]] = {
        "inputs": (4, lambda w, io, batch, seed: make_inputs(w, io, int(batch), int(seed))),
        "export": (3, export),
        "serve": (5, lambda peer, w, io, onnx, threads: serve(peer, w, io, onnx, int(threads))),
    }
    return run_mode(modes, arguments, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
