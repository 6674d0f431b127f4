"""Tone mapping of HDR and wide-gamut frames to SDR."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from queryinst_vis.utils.files import temporary_folder

PQ, HLG = 16, 18  # transfer characteristics (ITU-T H.273, table 3)
BT2020 = 9  # colour primaries (H.273, table 2)

_WHITE = 203.0  # cd/m2 of SDR reference white (ITU-R BT.2408)
_HLG_PEAK = 1000.0  # cd/m2 of the nominal HLG display
_KNEE = 0.7  # fraction of white above which highlights are compressed
_GAMMA = 2.4  # of an SDR display (BT.1886)
_GRID = 33  # points of the 3D lookup table per channel
_TO_BT709 = np.array(  # linear BT.2020 to linear BT.709 (BT.2087)
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593])  # of linear BT.2020


def needs_tone_map(frame: av.VideoFrame) -> bool:
    """Whether a frame is HDR (PQ, HLG) or has BT.2020 primaries."""
    return frame.color_trc in (PQ, HLG) or frame.color_primaries == BT2020


class ToneMap:
    """Converts HDR or wide-gamut frames to 8-bit SDR RGB (BT.709, gamma 2.4).

    Luminance up to 0.7 of the reference white of 203 cd/m2 is unchanged, to match an SDR
    grade; highlights up to the peak are compressed instead of clipped. The peak is 10,000 cd/m2
    for PQ and 1,000 for HLG.

    Args:
        frame: a frame of the video; all others have the same size, format and colours.
    """

    def __init__(self, frame: av.VideoFrame) -> None:
        table = _table(frame.color_trc)
        self._graph = av.filter.Graph()
        source = self._graph.add(
            "buffer",
            f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1"
            f":colorspace={int(frame.colorspace)}:range={int(frame.color_range)}",
        )
        with temporary_folder() as folder:
            path = folder / "table.cube"
            _write_cube(path, table)
            steps = [
                # lookup tables are faster on planar formats
                self._graph.add("format", "pix_fmts=gbrp16le"),
                self._graph.add("lut3d", file=str(path), interp="tetrahedral"),
                self._graph.add("format", "pix_fmts=rgb24"),
                self._graph.add("buffersink"),
            ]
            for step in steps:
                source.link_to(step)
                source = step
            self._graph.configure()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame as ``rgb24``."""
        self._graph.push(frame)
        mapped = self._graph.pull()
        assert isinstance(mapped, av.VideoFrame)
        return mapped


def _table(transfer: int) -> np.ndarray:
    """``(33, 33, 33, 3)`` display RGB, 0..1, indexed by coded blue, green, red, 0..1."""
    axis = np.linspace(0, 1, _GRID)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    light, peak = _to_light(np.stack([red, green, blue], axis=-1), transfer)
    # scale all channels by the compression of the brightest one, which preserves the hue
    brightest = np.maximum(light.max(axis=-1, keepdims=True), 1e-9)
    light = light * (_compress(brightest, peak) / brightest)
    return np.clip(light @ _TO_BT709.T, 0, 1) ** (1 / _GAMMA)


def _to_light(code: np.ndarray, transfer: int) -> tuple[np.ndarray, float]:
    """Linear display light in units of white, and its maximum."""
    if transfer == PQ:  # SMPTE ST 2084
        power = code ** (1 / 78.84375)
        ratio = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
        return ratio ** (1 / 0.1593017578125) * (10_000 / _WHITE), 10_000 / _WHITE
    if transfer == HLG:  # BT.2100, with the system gamma of a screen of 1,000 cd/m2
        scene = np.where(
            code <= 0.5, code**2 / 3, (np.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12
        )
        luminance = np.maximum(scene @ _LUMINANCE, 1e-9)[..., None]
        return scene * luminance**0.2 * (_HLG_PEAK / _WHITE), _HLG_PEAK / _WHITE
    return code**_GAMMA, 1.0


def _compress(light: np.ndarray, peak: float) -> np.ndarray:
    """Map light up to ``peak`` to 0..1 with the Moebius curve of FFmpeg's ``tonemap``."""
    if peak <= 1:
        return light
    a = -(_KNEE**2) * (peak - 1) / (_KNEE**2 - 2 * _KNEE + peak)
    b = (_KNEE**2 - 2 * _KNEE * peak + peak) / (peak - 1)
    scale = (b * b + 2 * b * _KNEE + _KNEE * _KNEE) / (b - a)
    return np.where(light <= _KNEE, light, scale * (light + a) / (light + b))


def _write_cube(path: Path, table: np.ndarray) -> None:
    rows = "\n".join(" ".join(f"{value:.6f}" for value in row) for row in table.reshape(-1, 3))
    path.write_text(f"LUT_3D_SIZE {_GRID}\n{rows}\n")
