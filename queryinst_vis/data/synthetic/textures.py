"""Seamless random textures, independent of the shape class."""

from __future__ import annotations

import cv2
import numpy as np

_FULL_TURN = 2 * np.pi


def clouds(rng: np.random.Generator, size: int, roughness: float) -> np.ndarray:
    """``(size, size)`` periodic noise in 0..1.

    White noise with the spectrum ``frequency ** -roughness``: 1 looks like gravel, 2 like clouds.
    """
    spectrum = np.fft.rfft2(rng.standard_normal((size, size)))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = np.inf  # no constant part: the mean is 0.5
    noise = np.fft.irfft2(spectrum * frequency**-roughness, s=(size, size))
    return np.clip(0.5 + noise / (5 * noise.std()), 0, 1)


def _phases(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Phases along columns and rows with an integer number of periods, 8 to 32 pixels each."""
    ramp = np.arange(size) * _FULL_TURN / size
    periods = rng.integers(size // 32, size // 8, size=2)
    return ramp[None, :] * periods[0], ramp[:, None] * periods[1]


def _stripes(rng: np.random.Generator, size: int) -> np.ndarray:
    across, down = _phases(rng, size)
    return np.sin(across + down * rng.choice([-1, 0, 1]))


def _checks(rng: np.random.Generator, size: int) -> np.ndarray:
    across, down = _phases(rng, size)
    return 2 * np.sign(np.sin(across)) * np.sign(np.sin(down))


def _dots(rng: np.random.Generator, size: int) -> np.ndarray:
    across, down = _phases(rng, size)
    return 2 * (np.sin(across) + np.sin(down) - 0.7)


def _patches(rng: np.random.Generator, size: int) -> np.ndarray:
    return 12 * (clouds(rng, size, 1.7) - 0.5)


def _plain(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.full((size, size), rng.uniform(-1, 1))


_PATTERNS = (_stripes, _checks, _dots, _patches, _plain)


def texture(
    rng: np.random.Generator, size: int, colours: np.ndarray, grain: float = 0.25
) -> np.ndarray:
    """A random pattern of two colours with uneven illumination.

    Args:
        rng: random generator.
        size: side of the tile in pixels, at least 32.
        colours: ``(2, 3)`` RGB in 0..255.
        grain: variation of the illumination, 0..1.

    Returns:
        ``(size, size, 3)`` float32 RGB in 0..255, periodic.
    """
    pattern = _PATTERNS[rng.integers(len(_PATTERNS))](rng, size)
    blend = np.clip(0.5 + 0.5 * pattern, 0, 1)[..., None]
    light = 1 + grain * (2 * clouds(rng, size, 1.2) - 1)[..., None]
    tile = (colours[0] * (1 - blend) + colours[1] * blend) * light
    return np.clip(tile, 0, 255).astype(np.float32)


def contrasting_colours(
    rng: np.random.Generator, count: int, against: np.ndarray, candidates: int = 4
) -> np.ndarray:
    """``(count, 3)`` random RGB colours, each the candidate most distant from ``against``."""
    drawn = rng.uniform(15, 240, size=(count, candidates, 3))
    farthest = np.linalg.norm(drawn - against, axis=2).argmax(axis=1)
    return drawn[np.arange(count), farthest]


def sample(tile: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sample a tile bilinearly at real-valued positions, with wrap-around."""
    size = tile.shape[0]
    return cv2.remap(
        tile,
        np.mod(x, size).astype(np.float32),
        np.mod(y, size).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
