"""Data types shared by the whole package: detections, targets, batches, stage outputs."""

from queryinst_vis.structures.batches import Batch, StageOutput, Target
from queryinst_vis.structures.detections import Detections, Embedding

__all__ = ["Batch", "Detections", "Embedding", "StageOutput", "Target"]
