"""PyTorch on the GPU: the work of bench_kernels and bench_model, timed between CUDA events, as JSON.

    gpu_torch.py kernels NAMES OUT    NAMES: a file with the names of bench_kernels' rows, whose work is done here
    gpu_torch.py models OUT           whole model, eager and torch.compile, batch 1, 8, 32; training step

Shapes are read from the names, so that there is one list of shapes. Of attention the best of PyTorch's own kernels
counts (FlashAttention, memory-efficient, cuDNN). OUT is replaced after every row, so that a run that is cut off leaves
what it had; rows that are in it already, of the same day, device and PyTorch, are kept, not measured again. Without
PyTorch or without a GPU it says so and exits with 3.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

try:
    import torch
except ImportError:
    print("gpu_torch.py: no PyTorch here")
    sys.exit(3)

import torch.nn.functional as functional
from torch import Tensor

HERE = Path(__file__).resolve().parent
PRECISIONS = ("bf16", "tf32", "fp32")  # in the order of what is looked at first
BATCHES = (1, 8, 32)
MODES = {"eager": None, "compile": "default", "compile_graph": "reduce-overhead"}
Work = Callable[[], object]


def seconds_of(work: Work, repeats: int = 20) -> float:
    """Median seconds of a call: `repeats` stretches of calls that take some milliseconds each."""
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def stretch(calls: int) -> float:
        start.record()
        for _ in range(calls):
            work()
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop) * 1e-3 / calls

    stretch(3)
    calls = int(min(max(0.005 / max(stretch(3), 1e-7), 1), 1000))
    return statistics.median(stretch(calls) for _ in range(repeats))


def first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")


def use(precision: str) -> torch.dtype:
    """Switches TF32 on or off; the type of tensors."""
    torch.backends.cuda.matmul.allow_tf32 = precision in ("tf32", "mixed")
    torch.backends.cudnn.allow_tf32 = precision in ("tf32", "mixed")
    torch.backends.cudnn.benchmark = True
    return torch.bfloat16 if precision == "bf16" else torch.float32


def random(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.rand(*shape, device="cuda", dtype=torch.float32).sub_(0.5).to(dtype)


# ---- kernels --------------------------------------------------------------------------------------------------------


def attention_works(b: int, h: int, n: int, d: int, dtype: torch.dtype, backward: bool) -> dict[str, Work]:
    """The same attention by every kernel that PyTorch has for it. q, k and v lie in one tensor, as ours do, but are
    leaves of their own: autograd would fill and add up three gradients of a packed one, which is not attention."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    qkv = random(b, n, 3, h, d, dtype=dtype)
    q, k, v = (qkv[:, :, i].transpose(1, 2).detach().requires_grad_(backward) for i in range(3))
    works: dict[str, Work] = {}
    for name in ("FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION", "MATH"):
        kind = getattr(SDPBackend, name, None)
        if kind is None or (name == "MATH" and works):
            continue

        def forward(kind: SDPBackend = kind) -> Tensor:
            with sdpa_kernel([kind]):
                return functional.scaled_dot_product_attention(q, k, v, scale=0.125)

        try:
            out = forward()
            if backward:
                cotangent = torch.rand_like(out)
                torch.autograd.grad(out, (q, k, v), cotangent, retain_graph=True)
        except RuntimeError:  # not for this type, size or GPU
            continue
        if backward:
            works[name] = lambda out=out, c=cotangent: torch.autograd.grad(out, (q, k, v), c, retain_graph=True)
        else:
            works[name] = forward
    return works


def works_of(kernel: str, shape: str, dtype: torch.dtype) -> dict[str, Work]:
    """What PyTorch does for `kernel` of bench_kernels at `shape`, by name; empty when it has no twin."""
    sizes = [int(n) for n in re.findall(r"\d+", shape.split("_", 1)[-1] if kernel == "gemm" else shape)]
    if kernel == "gemm":
        m, n, k = (int(x) for x in re.search(r"_(\d+)x(\d+)x(\d+)", shape).groups())
        a, w, bias = random(m, k, dtype=dtype), random(n, k, dtype=dtype), random(n, dtype=dtype)
        return {"linear": lambda: functional.linear(a, w, bias)}
    if kernel in ("attention", "attention_backward"):
        b, h, n, d = (int(x) for x in re.search(r"_(\d+)x(\d+)x(\d+)x(\d+)", shape).groups())
        return attention_works(b, h, n, d, dtype, kernel.endswith("backward"))
    if kernel in ("layer_norm", "layer_norm_backward"):
        rows, columns = sizes
        x, w, b = random(rows, columns, dtype=dtype), random(columns, dtype=dtype), random(columns, dtype=dtype)
        if kernel == "layer_norm":
            return {"layer_norm": lambda: functional.layer_norm(x, (columns,), w, b, 1e-6)}
        dy = random(rows, columns, dtype=dtype)
        _, mean, rstd = torch.ops.aten.native_layer_norm(x, [columns], w, b, 1e-6)
        return {
            "layer_norm_backward": lambda: torch.ops.aten.native_layer_norm_backward(
                dy, x, [columns], mean, rstd, w, b, [True, True, True]
            )
        }
    if kernel == "softmax":
        x = random(*sizes, dtype=dtype)
        return {"softmax": lambda: functional.softmax(x, -1)}
    if kernel == "softmax_backward":
        y, dy = random(*sizes, dtype=dtype), random(*sizes, dtype=dtype)
        return {kernel: lambda: torch.ops.aten._softmax_backward_data(dy, y, -1, dtype)}
    if kernel == "gelu_backward":
        x, dy = random(*sizes, dtype=dtype), random(*sizes, dtype=dtype)
        return {kernel: lambda: torch.ops.aten.gelu_backward(dy, x)}
    if kernel == "transpose":
        x = random(*sizes, dtype=dtype)
        return {kernel: lambda: x.t().contiguous()}
    if kernel == "column_sum":
        x = random(*sizes, dtype=dtype)
        return {kernel: lambda: x.sum(0)}
    if kernel in ("add", "multiply_columns", "multiply_rows", "multiply_one"):
        rows, columns = sizes
        factors = {"multiply_columns": (1, columns), "multiply_rows": (rows, 1), "multiply_one": (1, 1)}
        x, y = random(rows, columns, dtype=dtype), random(*factors.get(kernel, (rows, columns)), dtype=dtype)
        return {kernel: (lambda: x + y) if kernel == "add" else (lambda: x * y)}
    if kernel == "index_select":
        x, index = random(*sizes, dtype=dtype), torch.arange(sizes[0] - 1, -1, -1, device="cuda")
        return {kernel: lambda: x.index_select(0, index)}
    if kernel == "expand":
        rows, columns = sizes
        x = random(1, columns, dtype=dtype)
        return {kernel: lambda: x.expand(rows, columns).contiguous()}
    if kernel == "sum_of_squares":
        x = random(*sizes, dtype=dtype)
        return {"vector_norm": lambda: torch.linalg.vector_norm(x)}
    if kernel == "avg_pool2d":
        x = random(*sizes, dtype=dtype)
        return {kernel: lambda: functional.avg_pool2d(x, 2)}
    if kernel == "wide_attention":
        q, k, v = (random(*sizes, dtype=dtype) for _ in range(3))
        return {"products": lambda: torch.bmm(torch.softmax(torch.bmm(q, k.transpose(1, 2)) * 0.02, -1), v)}
    if kernel == "gelu":
        x = random(*sizes, dtype=dtype)
        return {"gelu": lambda: functional.gelu(x)}
    if kernel.startswith("conv2d"):
        b, ci, side, co, k, s = (int(x) for x in re.search(r"_(\d+)x(\d+)x(\d+)_to_(\d+)_k(\d+)s(\d+)", shape).groups())
        pad = 0 if s == k else k // 2
        x, w = random(b, ci, side, side, dtype=dtype), random(co, ci, k, k, dtype=dtype)
        bias = random(co, dtype=dtype)
        if kernel == "conv2d":
            last = torch.channels_last
            x_last, w_last = x.to(memory_format=last), w.to(memory_format=last)
            return {
                "conv2d": lambda: functional.conv2d(x, w, bias, s, pad),
                "conv2d channels_last": lambda: functional.conv2d(x_last, w_last, bias, s, pad),
            }
        dy = functional.conv2d(x, w, None, s, pad)
        mask = [kernel.endswith("data"), kernel.endswith("weight"), False]
        return {
            kernel: lambda: torch.ops.aten.convolution_backward(
                dy, x, w, None, [s, s], [pad, pad], [1, 1], False, [0, 0], 1, mask
            )
        }
    return {}


def time_kernels(names: list[str], result: dict, save: Callable[[], None], deadline: float) -> None:
    rows = result.setdefault("kernels", {})
    known = [m for m in (re.fullmatch(r"(\w+)/(.+)/cuda_(fp32|tf32|bf16)", name) for name in names) if m]
    left = [m for m in known if m[0] not in rows]
    result["not_run"] = [m[0] for m in left]
    while left and time.monotonic() <= deadline:
        name, (kernel, shape, precision) = left[0][0], left[0].groups()
        try:
            timed = {what: seconds_of(work) for what, work in works_of(kernel, shape, use(precision)).items()}
            best = min(timed, key=timed.get, default=None)
            rows[name] = {"seconds": timed[best], "what": best, "all": timed} if best else {"what": "no twin"}
        except RuntimeError as error:  # out of memory, or nothing for this type
            rows[name] = {"error": first_line(error)}
            torch.cuda.empty_cache()
        left.pop(0)
        result["not_run"] = [m[0] for m in left]
        save()


# ---- models ---------------------------------------------------------------------------------------------------------


def make_model(which: str, dtype: torch.dtype) -> torch.nn.Module:
    """The official graph, written plainly (peers/promptiqa_torch.py), with PyTorch's initial weights."""
    sys.path.insert(0, str(HERE / "peers"))
    import promptiqa_torch

    torch.manual_seed(1)
    if which == "base":
        config = SimpleNamespace(**promptiqa_torch.OFFICIAL)
    else:
        config = promptiqa_torch.read_config(str(next((HERE.parent / "weights").glob("*.safetensors"))))
    return promptiqa_torch.PromptIQA(config).to("cuda", dtype)


def leave_one_out(model: torch.nn.Module, feature: Tensor, score: Tensor) -> Tensor:
    """Every image scored with the others of its group as its prompt."""
    members = feature.shape[0]
    prompts = model.prompt_feature(feature, score)
    others = torch.tensor([[j for j in range(members) if j != i] for i in range(members)], device="cuda")
    return model.scores(feature, prompts[others])


def training_step(model: torch.nn.Module, images: Tensor, scores: Tensor, mixed: bool) -> None:
    """Forward and backward of 4 groups of 11 images under 3 sets of scores, as bench_model's. mixed: autocast to bf16."""
    model.zero_grad(set_to_none=True)
    with torch.autocast("cuda", torch.bfloat16, enabled=mixed):
        features = model.image_feature(images)
        loss = torch.zeros((), device="cuda")
        for group in range(4):
            part = features[group * 11 : group * 11 + 11]
            for requirement in range(3):
                first = requirement * 44 + group * 11
                wanted = scores[first : first + 11]
                loss = loss + (leave_one_out(model, part, wanted) - wanted.squeeze(1)).abs().mean()
    (loss / 12).backward()


def model_rows() -> list[str]:
    """WHAT/WORK/BATCH/MODE_PRECISION, those that are looked at first in front: what compiles takes a minute a row."""
    forward = [
        f"{which}/forward/{batch}/{mode}_{precision}"
        for mode in MODES
        for which in ("base", "compact")
        for precision in PRECISIONS
        for batch in BATCHES
    ]
    telling = [f"base/forward/{batch}/{mode}_bf16" for batch in BATCHES for mode in ("eager", "compile")]
    train = [f"compact/training_step/44/eager_{precision}" for precision in ("mixed", "tf32", "fp32")]
    graphs = [f"base/forward/{batch}/compile_graph_bf16" for batch in BATCHES]
    return list(dict.fromkeys([*telling, *train, *graphs, *forward]))


def time_models(names: list[str], result: dict, save: Callable[[], None], deadline: float) -> None:
    rows = result.setdefault("models", {})
    models: dict[tuple[str, torch.dtype], torch.nn.Module] = {}

    def forward(which: str, precision: str, batch: int, how: str | None) -> Work:
        dtype = use(precision)
        if (which, dtype) not in models:
            models[which, dtype] = make_model(which, dtype).eval().requires_grad_(False)
        model = models[which, dtype]
        image, prompt = random(batch, 3, 224, 224, dtype=dtype), random(10, 128, dtype=dtype)
        torch._dynamo.reset()
        run = torch.compile(model, mode=how, dynamic=False) if how else model

        def call() -> Tensor:
            with torch.inference_mode():
                return run(image, prompt)

        return call

    def train(precision: str) -> Work:
        model = make_model("compact", use(precision)).train()
        images, scores = random(44, 3, 224, 224, dtype=torch.float32), random(132, 1, dtype=torch.float32) + 0.5
        return lambda: training_step(model, images, scores, precision == "mixed")

    left = result["not_run"] = [name for name in names if name not in rows]
    while left and time.monotonic() <= deadline:
        which, work, batch, how = left[0].split("/")
        mode, _, precision = how.rpartition("_")
        start = time.monotonic()
        try:
            call = train(precision) if work == "training_step" else forward(which, precision, int(batch), MODES[mode])
            call()
            torch.cuda.synchronize()
            rows[left[0]] = {"first_s": time.monotonic() - start, "seconds": seconds_of(call)}
        except Exception as error:  # noqa: BLE001 - a compiler that fails is one row, not the end
            rows[left[0]] = {"error": f"{type(error).__name__}: {first_line(error)}"}
        left.pop(0)
        save()


def started(out: Path) -> dict:
    """What OUT has of this day, device and PyTorch, or nothing yet."""
    head = {
        "date": datetime.date.today().isoformat(),
        "device": torch.cuda.get_device_name(0),
        "torch": torch.__version__,
    }
    try:
        before = json.loads(out.read_text())
    except (OSError, json.JSONDecodeError):
        return head
    return before if all(before.get(key) == value for key, value in head.items()) else head


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("kernels", "models"))
    parser.add_argument("paths", nargs="+", help="kernels: NAMES OUT; models: OUT")
    parser.add_argument("--seconds", type=float, default=480, help="start nothing new after this many seconds")
    parser.add_argument("--filter", default="", help="only rows whose name this regular expression finds")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu_torch.py: PyTorch sees no GPU")
        return 3
    deadline = time.monotonic() + options.seconds
    out = Path(options.paths[-1])
    result = started(out)

    def save() -> None:
        part = out.with_suffix(".part")
        part.write_text(json.dumps(result, indent=1) + "\n")
        os.replace(part, out)

    if options.what == "kernels":
        names = Path(options.paths[0]).read_text().split()
        names = [re.sub(r"/(iterations:\d+|manual_time|real_time)", "", n) for n in names]
    else:
        names = model_rows()
    names = [name for name in names if re.search(options.filter, name)]
    (time_kernels if options.what == "kernels" else time_models)(names, result, save, deadline)
    save()
    left = result.get("not_run", [])
    more = f", {len(left)} left: call again" if left else ""
    print(f"gpu_torch.py: {len(result[options.what])} rows in {out}{more}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
