"""Synthetic videos of moving shapes with exact masks: ``generate(dst, PRESETS[...], seed)``."""

from queryinst_vis.data.synthetic.settings import PRESETS, SyntheticSettings
from queryinst_vis.data.synthetic.writer import SyntheticStatistics, generate

__all__ = ["PRESETS", "SyntheticSettings", "SyntheticStatistics", "generate"]
