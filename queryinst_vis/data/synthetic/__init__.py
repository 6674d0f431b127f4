"""Synthetic videos of moving shapes with exact masks: ``generate(dst, PRESETS[...], seed)``."""

from queryinst_vis.data.synthetic.settings import PRESETS, SyntheticSettings
from queryinst_vis.data.synthetic.statistics import SyntheticStatistics
from queryinst_vis.data.synthetic.writer import generate

__all__ = ["PRESETS", "SyntheticSettings", "SyntheticStatistics", "generate"]
