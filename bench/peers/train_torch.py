"""PyTorch's side of the comparison of training steps; train.py drives it.

    train_torch.py make WEIGHTS IO SEED           writes 44 images and three sets of scores
    train_torch.py serve KIND WEIGHTS IO THREADS  whole steps on request; KIND is torch-fp32 or torch-autocast-bf16

A step is what promptiqa's train does: one backbone pass over four groups of eleven images, the heads once for every image
under three requirements with the other ten images of its group as the prompt, L1, backward, clipping, AdamW (PyTorch's
fused one), moving average of weights. Dropout is on and batch norms use the batch's statistics.
"""

from __future__ import annotations

import sys
import time

from worker import UnavailableError, cpu_has_bf16, peak_mb, run_mode, say

GROUPS, MEMBERS, REQUIREMENTS = 4, 11, 3


def make(weights: str, io_file: str, seed: int) -> None:
    import torch
    from safetensors.torch import save_file

    from promptiqa_torch import read_config

    side = read_config(weights).image_size
    generator = torch.Generator().manual_seed(seed)
    images = GROUPS * MEMBERS
    noise = torch.rand(images, 3, 28, 28, generator=generator) * 2 - 1
    image = torch.nn.functional.interpolate(noise, size=(side, side), mode="bilinear", align_corners=False)
    save_file({"image": image, "score": torch.rand(REQUIREMENTS, images, generator=generator)}, io_file)
    say(file=io_file)


def serve(kind: str, weights: str, io_file: str, threads: int) -> None:
    import torch
    from safetensors.torch import load_file

    from promptiqa_torch import load

    bf16 = kind == "torch-autocast-bf16"
    if bf16 and not cpu_has_bf16():
        raise UnavailableError("this processor has no bfloat16 instructions")
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = load(weights).train().requires_grad_(True)
    io = load_file(io_file)
    image, score = io["image"], io["score"].flatten()
    averaged = [p.detach().clone() for p in model.state_dict().values() if p.is_floating_point()]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, betas=(0.9, 0.98), weight_decay=0.03, fused=True)
    rows = torch.arange(len(score))
    # Row i of `others`: the ten other pairs of its group, under the same requirement.
    groups = rows.reshape(-1, MEMBERS)
    others = torch.stack([torch.cat([groups[i // MEMBERS, : i % MEMBERS], groups[i // MEMBERS, i % MEMBERS + 1 :]]) for i in rows])

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            feature = model.image_feature(image).float().repeat(REQUIREMENTS, 1)
            predicted = model.scores(feature, model.prompt_feature(feature, score[:, None])[others])
        loss = (predicted.float() - score).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            state = [p for p in model.state_dict().values() if p.is_floating_point()]
            torch._foreach_lerp_(averaged, state, 0.002)
        return loss.item()

    say(version=torch.__version__, threads=threads)
    step()
    say(ready=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        loss = step()
        seconds = time.perf_counter() - start
        say(seconds=seconds, score=[loss], peak_mb=peak_mb())


def main(arguments: list[str]) -> int:
    modes = {
        "make": (3, lambda weights, io, seed: make(weights, io, int(seed))),
        "serve": (4, lambda kind, weights, io, threads: serve(kind, weights, io, int(threads))),
    }
    return run_mode(modes, arguments, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
