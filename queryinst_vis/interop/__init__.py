"""Bridges to other projects' checkpoints."""

from queryinst_vis.interop.convert import convert_checkpoint

__all__ = ["convert_checkpoint"]
