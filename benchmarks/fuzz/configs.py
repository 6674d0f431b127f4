"""Configs: every key of the schema with every unusual value, and invalid config files."""

from __future__ import annotations

import random
from dataclasses import is_dataclass
from math import gcd
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from benchmarks.fuzz.blobs import corrupt_bytes
from benchmarks.fuzz.case import Case, Context
from queryinst_vis.config import Config

VALUES: list[Any] = [
    *(-1, 0, 1, 10**9, 10**19, 1e9, 1e-9, -0.5, 0.5, "NAN", "INF", "-INF"),
    *("text", "", "../x", "hf-hub:a/b", "local-dir:/tmp", "${oc.env:HOME}", "1", None, True),
    *([], [1], [-1, 0], [float("nan")], ["a"], [[1]], {}, [{"name": "os.system"}]),
]
"""Values for all keys; NAN and INF stand for the numbers."""

NUMBERS = {"NAN": float("nan"), "INF": float("inf"), "-INF": -float("inf")}

ENDLESS = {"train.max_steps", "train.accumulate"}
"""Keys whose large values legitimately cause endless runs."""

SKIPPED = {"train.precision", "inference.compile"}
"""Keys whose valid values compile for a minute or are irrelevant here."""


COMMANDS = {
    "train": ("train CONFIG --work-dir run --devices 1", "run"),
    "test-video": (
        "test-video CONFIG {samples}/tiny.safetensors --out out.json --devices 1",
        "out.json",
    ),
    "test-image": (
        "test-image CONFIG {samples}/image.safetensors --out out.json --devices 1",
        "out.json",
    ),
    "track": (
        "track {samples}/video/plain.mp4 --weights {samples}/tiny.safetensors --out out "
        "--max-size 64",
        "out/plain.mp4 out/results.json out/tracks.jsonl out/timeline.png out/run.json",
    ),
    "transfer-weights": (
        "transfer-weights {samples}/tiny.safetensors CONFIG new.safetensors",
        "new.safetensors",
    ),
}
"""Commands that read a config, and their outputs."""


def schema(kind: Any, prefix: str = "") -> dict[str, Any]:
    """The dotted keys of a config dataclass, with the types of their values."""
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        found[prefix + name] = hint
        if is_dataclass(hint):
            found |= schema(hint, f"{prefix}{name}.")
    return found


def _combinations() -> list[tuple[str, Any]]:
    keys = [key for key in schema(Config) if key not in SKIPPED]
    pairs = [(key, value) for key in keys for value in VALUES]
    large = [10**9, 10**19]
    return [(key, value) for key, value in pairs if not (key in ENDLESS and value in large)]


def key_and_value(context: Context) -> Case:
    """One key with one value, in the file or on the command line.

    Consecutive numbers enumerate all pairs before repeating any.
    """
    pairs = _combinations()
    step = next(s for s in range(len(pairs) * 618 // 1000, len(pairs)) if gcd(s, len(pairs)) == 1)
    key, value = pairs[(context.number * step + 7919 * context.seed) % len(pairs)]
    note, must_reject = f"{key} = {value!r}", None
    if isinstance(value, str) and value in NUMBERS:
        value = NUMBERS[value]
        if schema(Config)[key] in (int, float, int | None, float | None):
            must_reject = f"{key} is {value}"
    command, config_name = _command_for(key, context.random)
    if context.random.random() < 0.5:
        return _run(command, config_name, {}, {key: value}, context, note, must_reject)
    return _run(
        command, config_name, {key: value}, {}, context, f"{note}, in the file", must_reject
    )


def _as_text(value: Any) -> str:
    """The value as typed on the command line."""
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()


def _write_changed(source: Path, changes: dict[str, Any], folder: Path) -> Path:
    content = yaml.safe_load(source.read_text())
    for key, value in changes.items():
        *groups, leaf = key.split(".")
        holder = content
        for group in groups:
            holder = holder[group]
        holder[leaf] = value
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _command_for(key: str, rng: random.Random) -> tuple[str, str]:
    """A command that reads the key, and its config."""
    section = key.partition(".")[0]
    commands = {
        "inference": ["test-video", "test-video", "track", "test-image"],
        "tracking": ["test-video", "track"],
        "data": ["train", "test-video", "test-image"],
        "model": ["train", "train", "transfer-weights"],
        "input": ["train", "train", "test-video"],
    }
    command = rng.choice(commands.get(section, ["train"]))
    images = command == "test-image" or (command == "train" and rng.random() < 0.3)
    return command, "image_config.yaml" if images else "config.yaml"


def _run(
    command: str,
    config_name: str,
    changes: dict[str, Any],
    overrides: dict[str, Any],
    context: Context,
    note: str,
    must_reject: str | None,
) -> Case:
    """A command with a config, changed in the file or by overrides."""
    if command == "track":  # it reads no config file
        changes, overrides = {}, changes | overrides
    elif command == "transfer-weights":  # it takes no overrides
        changes, overrides = changes | overrides, {}
    text, outputs = COMMANDS[command]
    config = context.samples / config_name
    if changes:
        config = _write_changed(config, changes, context.folder)
    words = [word.replace("CONFIG", str(config)) for word in context.words(text)]
    typed = [f"{key}={_as_text(value)}" for key, value in overrides.items()]
    if command == "train" and "train.max_steps" not in note:
        typed.insert(0, "train.max_steps=1")
    at = 3 if command.startswith("test") else 2  # after the positional arguments, before options
    words[at:at] = typed
    return Case(words, f"{note} ({command})", outputs.split(), ["run/*"], must_reject=must_reject)


def file(context: Context) -> Case:
    """A config file that is corrupted, or has corrupted parents."""
    rng = context.random
    text = (context.samples / "config.yaml").read_text()
    kind = rng.randrange(4)
    path = context.folder / "config.yaml"
    if kind == 0:
        data, note = corrupt_bytes(text.encode(), rng)
        path.write_bytes(data)
    elif kind == 1:
        note, lines = rng.choice(sorted(_STRANGE_FILES.items()))
        path.write_text(lines if lines is not None else "a: " * 3000)
    elif kind == 2:
        bases = [
            "config.yaml",
            ".",
            "missing.yaml",
            3,
            None,
            [],
            [None],
            ["a.yaml"] * 3,
            "/etc/passwd",
        ]
        base = rng.choice([*bases, "/dev/zero", {"a": 1}, ["x.yaml", 5]])
        note = f"_base_: {base}"
        (context.folder / "a.yaml").write_text("train: {max_steps: 2}\n")
        path.write_text(yaml.safe_dump({"_base_": base}) + text)
    else:
        lines = text.splitlines()
        at = rng.randrange(len(lines))
        change = rng.choice(
            ["  " + lines[at], lines[at].strip(), lines[at] * 2, "\t" + lines[at], "- x"]
        )
        note, lines[at] = f"line {at}: {change}", change
        path.write_text("\n".join(lines))
    command = rng.choice(["train", "test-video", "transfer-weights"])
    return _run(command, str(path), {}, {}, context, note, None)


_STRANGE_FILES = {
    "aliases without end": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
    ),
    "an object of Python": "model: !!python/object/apply:os.system ['touch executed']\n",
    "nested without end": "model: " + "{a: " * 2000 + "1" + "}" * 2000,
    "many words on a line": None,
    "a list": "- 1\n- 2\n",
    "a number": "7\n",
    "two documents": "seed: 1\n---\nseed: 2\n",
    "a key twice": "seed: 1\nseed: 2\n",
    "itself resolved": "seed: ${seed}\n",
    "a circle": "model: {channels: ${model.num_heads}, num_heads: ${model.channels}}\n",
    "a missing environment variable": "data: {train: {images: '${oc.env:NOT_THERE}'}}\n",
    "a resolver": "seed: ${oc.decode:1e99}\n",
    "a byte order mark": "\ufeffseed: 1\n",
    "numbers as keys": "1: 2\n",
}
