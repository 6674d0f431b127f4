"""Classes that the short run of the tests leaves out because they have known faults."""

_SIGTERM = "SIGTERM leaves temporary files, and the next run leaves those of SIGKILL"

NOT_YET: dict[str, str] = {
    "config/key": "sizes without bounds, infinite numbers, lists within lists",
    "kill/track": _SIGTERM,
    "kill/test-video": _SIGTERM,
    "kill/to-mots": _SIGTERM,
    "kill/youtube-vis": _SIGTERM,
    "kill/coco-video": _SIGTERM,
    "kill/checkpoint": _SIGTERM,
    "kill/split": f"{_SIGTERM}; its two files do not appear together",
    "kill/diagnose": f"{_SIGTERM}; its two files do not appear together",
}
"""What is wrong, by class; it goes when ``python -m benchmarks.fuzz --only CLASS`` is clean."""
