"""Instance masks as COCO run lengths, without torch; ``masks.paste`` makes them of logits."""

from queryinst_vis.masks.encoding import decode_rle, encode_region, encode_rle, to_rle
from queryinst_vis.masks.rle import RLE, to_rles

__all__ = ["RLE", "decode_rle", "encode_region", "encode_rle", "to_rle", "to_rles"]
