"""Weights files, training states and the checkpoints of other projects."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

from benchmarks.fuzz.blobs import corrupt_bytes
from benchmarks.fuzz.case import Case, Context
from benchmarks.fuzz.mutations import STRANGE, mutated, slots

NOT_NUMBERS = "weights with NaN, or of a complex or bool type, are refused on loading"


def safetensors(context: Context) -> Case:
    """Our weights with corrupted bytes, header, config or tensors, for commands that load them."""
    path = context.folder / "weights.safetensors"
    data = (context.samples / "tiny.safetensors").read_bytes()
    kind, must_reject = context.random.randrange(4), None
    if kind == 0:
        data, note = corrupt_bytes(data, context.random)
    elif kind == 1:
        data, note = _corrupt_header(data, context.random)
    elif kind == 2:
        data, note = _corrupt_config(data, context.random)
    else:
        data, note, must_reject = _corrupt_tensors(context)
    path.write_bytes(data)
    return _load(context, path, note, must_reject)


LOADING = {
    "track {samples}/video/plain.mp4 --weights WEIGHTS --out out --max-size 64": "out",
    "convert-checkpoint WEIGHTS slim.safetensors": "slim.safetensors",
    "transfer-weights WEIGHTS {samples}/config.yaml new.safetensors": "new.safetensors",
    "test-video {samples}/config.yaml WEIGHTS --out out.json --devices 1": "out.json",
    "train {samples}/config.yaml train.init_weights=WEIGHTS train.max_steps=1 --work-dir run "
    "--devices 1": "run",
}


def _load(context: Context, path: Path, note: str, must_reject: str | None) -> Case:
    text, outputs = context.random.choice(sorted(LOADING.items()))
    words = context.words(text.replace("WEIGHTS", path.name))
    return Case(words, note, [outputs], ["run/*"], must_reject=must_reject)


def _parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def _joined(header: Any, body: bytes) -> bytes:
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + body


def _corrupt_header(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Names, types, shapes and offsets that are inconsistent with the bytes."""
    header, body = _parts(data)
    kind = rng.randrange(4)
    if kind == 0:
        return struct.pack("<Q", rng.choice([0, 1, 2**31, 2**40, 2**63])) + data[
            8:
        ], "header's length"
    name = rng.choice([name for name in header if name != "__metadata__"])
    if kind == 1:
        key = rng.choice(["dtype", "shape", "data_offsets"])
        strange = ["F64", "I8", "BOOL", "F8_E4M3", "C64", "X", [0], [2**40], [2**62, 2**62], [-1]]
        header[name][key] = rng.choice([*strange, [0, 4], [4, 0], [0, 2**50], None, "1", {}])
        return _joined(header, body), f"{name}.{key} = {str(header[name][key])[:30]}"
    if kind == 2:
        header[f"module.{name}"] = header.pop(name)
        return _joined(header, body), f"{name} renamed"
    header = mutated(header, rng)
    return _joined(header, body), "header"


def _corrupt_config(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """The metadata: the format, and the config of the model."""
    header, body = _parts(data)
    metadata = header["__metadata__"]
    if rng.random() < 0.15:
        key = rng.choice(["format", "config"])
        metadata[key] = rng.choice(["", "{", "[]", "null", "1", "x" * 10000, "[" * 100000, "é"])
        return _joined(header, body), f"metadata {key} = {metadata[key][:10]}"
    config = json.loads(metadata["config"])
    holder, key = rng.choice(list(slots(config)))
    sizes = [
        2e9,
        2**31,
        10**6,
        -1,
        0,
        1e308,
        "hf-hub:x/y",
        "local-dir:/",
        "${oc.env:HOME}",
        "${seed}",
    ]
    holder[key] = rng.choice([*sizes, *STRANGE])
    metadata["config"] = json.dumps(config)
    return _joined(header, body), f"config {key} = {str(holder[key])[:30]!r}"


def _corrupt_tensors(context: Context) -> tuple[bytes, str, str | None]:
    """A valid file with tensors of other values or types."""
    from safetensors.torch import load, save

    source = (context.samples / "tiny.safetensors").read_bytes()
    tensors = dict(sorted(load(source).items()))  # they have no fixed order
    note, must_reject = corrupt_state(tensors, context.random)
    plain = {name: value.contiguous() for name, value in tensors.items()}
    header, body = _parts(save(plain))
    header["__metadata__"] = _parts(source)[0]["__metadata__"]
    return _joined(header, body), note, must_reject


def corrupt_state(tensors: dict, rng: random.Random) -> tuple[str, str | None]:
    """Corrupt a state dict in place; return a note and, if applicable, why it must be rejected."""
    import torch

    floats = [name for name, value in tensors.items() if value.is_floating_point()]
    name = rng.choice(floats)
    value = tensors[name]
    kind = rng.randrange(9)
    if kind == 0:
        number = rng.choice([float("nan"), float("inf"), -float("inf")])
        tensors[name] = value.clone()
        tensors[name].view(-1)[rng.randrange(value.numel())] = number
        return f"{name} holds {number}", NOT_NUMBERS
    if kind == 1:
        chosen = rng.choice([torch.complex64, torch.bool])
        tensors[name] = value.to(chosen)
        return f"{name} is {chosen}", NOT_NUMBERS
    if kind == 2:
        chosen = rng.choice([torch.float16, torch.bfloat16, torch.float64])
        tensors.update({key: tensors[key].to(chosen) for key in floats})
        return f"all are {chosen}", None
    if kind == 3:
        chosen = rng.choice([torch.int8, torch.int64, torch.float8_e4m3fn])
        tensors[name] = value.to(chosen)
        return f"{name} is {chosen}", None
    if kind == 4:
        prefix = rng.choice(["module.", "model.", "ema.", "state_dict.model.", ""])
        renamed = {f"{prefix}{key}": value for key, value in tensors.items()}
        tensors.clear()
        tensors.update(renamed)
        return f"under {prefix}", None
    if kind == 5:
        for key in rng.sample(sorted(tensors), rng.choice([1, len(tensors) // 2, len(tensors)])):
            del tensors[key]
        return "some are missing", None
    if kind == 6:
        tensors[rng.choice(["x", "", "a" * 1000, "é\n", f"{name}.more"])] = torch.zeros(3)
        return "one more", None
    if kind == 7:
        shapes = [(), (0,), (1,) * 20, (3, 0, 2), (2, *value.shape), value.shape[::-1]]
        shape = rng.choice(shapes)
        tensors[name] = torch.zeros(shape)
        return f"{name} has the shape {list(shape)}", None
    tensors[name] = value * rng.choice([0.0, 1e10, 1e38, -1.0])
    return f"{name} multiplied", None


def training_state(context: Context) -> Case:
    """``last.ckpt`` with corrupted bytes or content, as weights and as a training run to resume."""
    import shutil

    shutil.copytree(context.samples / "run", context.folder / "run")
    path = context.folder / "run" / "last.ckpt"
    must_reject = None
    if context.random.random() < 0.5:
        data, note = corrupt_bytes(path.read_bytes(), context.random)
        path.write_bytes(data)
    else:
        note, must_reject = _corrupt_training_state(path, context.random)
    if context.random.random() < 0.6:
        shutil.copy(path, context.folder / "weights.ckpt")
        shutil.rmtree(context.folder / "run")
        return _load(context, context.folder / "weights.ckpt", note, must_reject)
    words = [
        "train",
        str(context.samples / "config.yaml"),
        "train.max_steps=2",
        "--work-dir",
        "work",
    ]
    (context.folder / "run").rename(context.folder / "work")
    work = ["work/*"]
    return Case([*words, "--resume", "--devices", "1"], note, ["work"], work, work, must_reject)


def _corrupt_training_state(path: Path, rng: random.Random) -> tuple[str, str | None]:
    import torch

    content = torch.load(path, weights_only=True)
    kind = rng.randrange(3)
    if kind == 0:
        note, must_reject = corrupt_state(content["model"], rng)
    elif kind == 1:
        key = rng.choice(sorted(content))
        values = [None, -1, 0, 1e9, 2**70, float("nan"), "text", [], {}, {"x": 1}, torch.zeros(2)]
        content[key] = rng.choice(values)
        note, must_reject = f"{key} = {str(content[key])[:20]}", None
    else:
        key = rng.choice(sorted(content))
        del content[key]
        note, must_reject = f"without {key}", None
    torch.save(content, path)
    return note, must_reject


def foreign(context: Context) -> Case:
    """Checkpoints of mmdetection and MaskTrack R-CNN, wrapped and corrupted, for the converter."""
    import torch

    name = context.random.choice(["track_head.pth", "track_head.pth", "queryinst.pth"])
    path = context.folder / "theirs.pth"
    source = context.samples / "checkpoint" / name
    must_reject = None
    if context.random.random() < 0.35:
        data, note = corrupt_bytes(source.read_bytes(), context.random)
        path.write_bytes(data)
    else:
        content = torch.load(source, weights_only=True)
        note, must_reject = _corrupt_foreign(content, context.random)
        torch.save(content.get("bare", content), path)
    outputs = ["ours.safetensors"]
    if context.random.random() < 0.1:
        path = path.rename(context.folder / "theirs.safetensors")
        note += ", named .safetensors"
    words = ["convert-checkpoint", path.name, outputs[0]]
    return Case(words, f"{name}: {note}", outputs, must_reject=must_reject)


def _corrupt_foreign(content: dict, rng: random.Random) -> tuple[str, str | None]:
    import torch

    state, must_reject = content["state_dict"], None
    kind = rng.randrange(5)
    if kind == 0:
        return corrupt_state(state, rng)
    if kind == 1:
        content.pop("state_dict")
        wrapping = rng.choice(["model", "ema", "teacher", "module", "net", "state_dict.state_dict"])
        inner: Any = state
        for key in reversed(wrapping.split(".")):
            inner = {key: inner}
        content.update(inner)
        return f"wrapped in {wrapping}", None
    if kind == 2:
        content["bare"] = state
        note, must_reject = ("bare", None) if rng.random() < 0.5 else corrupt_state(state, rng)
        return f"bare, {note}", must_reject
    if kind == 3:
        values: list[Any] = [None, 1, "x", [1], {"a": {"b": 1}}, torch.nn.Parameter(torch.ones(2))]
        values += [torch.zeros(1).expand(10**6, 10**6), torch.zeros(5).to_sparse()]
        key = rng.choice([*state, "new.key", 7, ("a", 1), None])
        state[key] = rng.choice(values)
        return f"{key} = {str(type(state[key]))[:40]}", must_reject
    key = rng.choice(["meta", "optimizer", "state_dict", "message_hub"])
    content[key] = rng.choice(
        [None, 1, [], {}, "x", {"CLASSES": 3}, {"CLASSES": [1, None]}, {"CLASSES": "cat"}]
    )
    return f"{key} = {content[key]}", None
