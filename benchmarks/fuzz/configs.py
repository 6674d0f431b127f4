"""Configs: every key of the schema with every strange value, and files that are no configs."""

from __future__ import annotations

import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from benchmarks.fuzz.blobs import spoil_bytes
from benchmarks.fuzz.case import Case, Room

VALUES: list[Any] = [
    *(-1, 0, 1, 10**9, 10**19, 1e9, 1e-9, -0.5, 0.5, "NAN", "INF", "-INF"),
    *("text", "", "../x", "hf-hub:a/b", "local-dir:/tmp", "${oc.env:HOME}", "1", None, True),
    *([], [1], [-1, 0], [float("nan")], ["a"], [[1]], {}, [{"name": "os.system"}]),
]
"""What any key may hold; NAN and INF stand for the numbers."""

NUMBERS = {"NAN": float("nan"), "INF": float("inf"), "-INF": -float("inf")}

ENDLESS = {"train.max_steps", "train.accumulate"}
"""Keys whose large values ask for a run without end, which is what they get."""

NEEDLESS = {"train.precision", "inference.compile"}
"""Keys whose sound values compile for a minute or do not matter here."""


def leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every key of a config, dotted, with its value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found[prefix + key] = value
        if isinstance(value, dict):
            found |= leaves(value, f"{prefix}{key}.")
    return found


def _combinations() -> list[tuple[str, Any]]:
    from queryinst_vis.config import Config

    keys = [key for key in leaves(asdict(Config())) if key not in NEEDLESS]
    pairs = [(key, value) for key in keys for value in VALUES]
    large = [10**9, 1e9, 10**19]
    return [(key, value) for key, value in pairs if not (key in ENDLESS and value in large)]


def key_and_value(room: Room) -> Case:
    """One key with one value, in the file or on the command line."""
    pairs = _combinations()
    step = next(s for s in range(len(pairs) * 5 // 8, len(pairs)) if _coprime(s, len(pairs)))
    key, value = pairs[(room.number * step + 7919 * room.seed) % len(pairs)]
    note = f"{key} = {value!r}"
    command, config_name = _command_for(key, room.random)
    config = room.samples / config_name
    refuse = None
    if isinstance(value, str) and value in NUMBERS:
        value = NUMBERS[value]
        default = leaves(asdict(_defaults())).get(key)
        if isinstance(default, int | float) and not isinstance(default, bool):
            refuse = f"{key} is {value}"
    overrides = []
    if room.random.random() < 0.5:
        overrides = [f"{key}={_as_text(value)}"]
    else:
        config = _write_key(config, key, value, room.folder)
    return _run(command, config, overrides, room, note, refuse)


def _defaults():
    from queryinst_vis.config import Config

    return Config()


def _coprime(a: int, b: int) -> bool:
    import math

    return math.gcd(a, b) == 1


def _as_text(value: Any) -> str:
    """As one would type it."""
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()


def _write_key(source: Path, key: str, value: Any, folder: Path) -> Path:
    content = yaml.safe_load(source.read_text())
    holder = content
    *groups, leaf = key.split(".")
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
    command: str, config: Path, overrides: list[str], room: Room, note: str, refuse: str | None
) -> Case:
    weights = str(room.samples / "tiny.safetensors")
    note = f"{note} ({command}{', in the file' if not overrides else ''})"
    if command == "train":
        short = [] if "train.max_steps" in note else ["train.max_steps=1"]
        words = [command, str(config), *short, *overrides, "--work-dir", "run", "--devices", "1"]
        return Case(words, note, ["run"], ["run/*"], refuse=refuse)
    if command == "track":
        clip = str(room.samples / "video/plain.mp4")
        if not overrides:  # it takes none from a file
            key, _, value = note.partition(" (")[0].partition(" = ")
            overrides = [f"{key}={value}"]
        outputs = ["out/plain.mp4", "out/results.json", "out/timeline.png"]
        words = [
            command,
            clip,
            *overrides,
            "--weights",
            weights,
            "--out",
            "out",
            "--max-size",
            "64",
        ]
        return Case(words, note, outputs, refuse=refuse)
    if command == "transfer-weights":
        if overrides:
            key, _, value = overrides[0].partition("=")
            config = _write_key(config, key, yaml.safe_load(value or "null"), room.folder)
        words = [command, weights, str(config), "new.safetensors"]
        return Case(words, note, ["new.safetensors"], refuse=refuse)
    words = [command, str(config), weights, *overrides, "--out", "out.json", "--devices", "1"]
    return Case(words, note, ["out.json"], refuse=refuse)


def file(room: Room) -> Case:
    """A config file that is damaged, or whose parents are."""
    rng = room.random
    text = (room.samples / "config.yaml").read_text()
    kind = rng.randrange(4)
    path = room.folder / "config.yaml"
    if kind == 0:
        data, note = spoil_bytes(text.encode(), rng)
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
        (room.folder / "a.yaml").write_text("train: {max_steps: 2}\n")
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
    return _run(command, path, [], room, note, None)


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
