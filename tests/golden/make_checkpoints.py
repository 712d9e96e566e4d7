#!/usr/bin/env python3
"""Writes the small PyTorch checkpoints of this folder: python make_checkpoints.py FOLDER (needs torch).

Every tensor is arange(numel) * scale + start of its shape, so that the tests can name the values expected.
"""
import collections
import os
import pickle
import sys
import zipfile

import torch


def values(*shape, dtype=torch.float32, start=0.0, scale=0.5):
    numel = 1
    for dim in shape:
        numel *= dim
    return (torch.arange(numel, dtype=torch.float64) * scale + start).reshape(shape).to(dtype)


class Malicious:
    """Pickles as a call of os.system: loading it with an ordinary unpickler would run the command."""

    def __reduce__(self):
        return os.system, ("touch pickle_was_executed",)


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(3, 2)
        self.bn = torch.nn.BatchNorm2d(2)
        with torch.no_grad():
            self.fc.weight.copy_(values(2, 3))
            self.fc.bias.copy_(values(2, start=-1.0))
            self.bn.running_var.copy_(values(2, start=4.0))
            self.bn.num_batches_tracked.fill_(7)


def main(folder):
    def save(name, value, **options):
        torch.save(value, os.path.join(folder, name), **options)

    # A module's own state dict: an OrderedDict with the attribute _metadata, which is a BUILD instruction.
    module = Small()
    save("module.pth", module.state_dict())
    # The form of the official checkpoint: DataParallel's prefix, other keys beside the state dict.
    parallel = {"module." + key: tensor for key, tensor in module.state_dict().items()}
    save("official.pth.tar", {"state_dict": parallel, "prompt_num": 10})
    # The prefix on some keys only: it stays.
    save("mixed_prefix.pth", {"module.a": values(2), "b": values(3)})
    save("model_key.pth", {"model": {"w": values(2, 2)}, "epoch": 3, "best": 0.5, "seed": 2**64 - 1, "note": "x" * 300})
    save("parameters.pth", {"w": torch.nn.Parameter(values(2, 2)), "scalar": values().requires_grad_()})
    save("dtypes.pth", {
        "f32": values(5, start=-1.0), "f16": values(5, dtype=torch.float16, start=-1.0),
        "bf16": values(5, dtype=torch.bfloat16, start=-1.0), "f64": values(5, dtype=torch.float64, start=-1.0),
        "i64": values(5, dtype=torch.int64, start=-2, scale=1), "empty": values(0, 4)})
    shared = values(4, 6)
    save("shared_storage.pth", {"all": shared, "row2": shared[2], "rows1to2": shared[1:3]})
    save("not_contiguous.pth", {"good": values(2), "columns": shared[:, 1:3]})
    save("transposed.pth", {"w": shared.t()})
    # Strides of dimensions of size 1 do not matter: PyTorch calls this contiguous.
    save("unit_strides.pth", {"w": torch.as_strided(values(6), (1, 6, 1), (99, 1, 5))})
    for protocol in (2, 3, 4, 5):
        save(f"protocol{protocol}.pth", module.state_dict(), pickle_protocol=protocol)
    save("int32.pth", {"steps": values(3, dtype=torch.int32, scale=1)})
    save("not_a_tensor.pth", {"w": values(2), "lr": 0.1})
    save("list.pth", [values(2)])
    save("seven_dimensions.pth", {"w": values(1, 1, 1, 1, 1, 1, 2)})
    save("whole_module.pth", module)
    save("malicious.pth", {"w": values(2), "payload": Malicious()})
    save("legacy.pth", module.state_dict(), _use_new_zipfile_serialization=False)

    def rewrite(source, target, change=lambda name, data: data, compression=zipfile.ZIP_STORED, prefix=None):
        """Copies an archive with Python's own zip writer: no ZIP64 records, no alignment."""
        with zipfile.ZipFile(os.path.join(folder, source)) as old, \
                zipfile.ZipFile(os.path.join(folder, target), "w", compression) as new:
            for entry in old.infolist():
                data = change(entry.filename, old.read(entry))
                name = entry.filename if prefix is None else prefix + entry.filename[entry.filename.index("/"):]
                if data is not None:
                    new.writestr(zipfile.ZipInfo(name), data, compression)

    rewrite("module.pth", "compressed.pth", compression=zipfile.ZIP_DEFLATED)
    rewrite("module.pth", "big_endian.pth", lambda name, data: b"big" if name.endswith("/byteorder") else data)
    rewrite("module.pth", "other_prefix.pth", prefix="a b.c/deep")
    rewrite("module.pth", "no_byteorder.pth", lambda name, data: None if name.endswith("/byteorder") else data)
    rewrite("module.pth", "missing_storage.pth", lambda name, data: None if name.endswith("/data/0") else data)
    rewrite("module.pth", "short_storage.pth", lambda name, data: data[:-1] if name.endswith("/data/0") else data)
    rewrite("module.pth", "no_pickle.pth", lambda name, data: None if name.endswith("/data.pkl") else data)
    rewrite("module.pth", "torchscript.pth", lambda name, data: data)
    with zipfile.ZipFile(os.path.join(folder, "torchscript.pth"), "a") as archive:
        archive.writestr("module/constants.pkl", pickle.dumps(collections.OrderedDict(), protocol=2))


if __name__ == "__main__":
    main(sys.argv[1])
