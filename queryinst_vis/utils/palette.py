"""Colours of tracks, shared by images, timelines and pages."""

from __future__ import annotations

PALETTE = (
    # adjacent colours differ in hue, so that consecutive ids can be distinguished
    "#1f9bff", "#ff7a1a", "#2fbf5b", "#e8384f", "#a15cf0", "#ffd021",
    "#12c4c4", "#ff5cb0", "#9bd41f", "#b0703c", "#5b6bff", "#ff9d8a",
)  # fmt: skip


def track_colour(track_id: int) -> tuple[int, int, int]:
    """The ``(red, green, blue)`` colour of a track, 0..255."""
    colour = PALETTE[track_id % len(PALETTE)]
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
