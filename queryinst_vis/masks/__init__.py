"""Instance masks as COCO RLE, without torch; ``masks.paste`` makes them from logits."""

from queryinst_vis.masks.instance import InstanceMask, MaskRegion
from queryinst_vis.masks.rle import (
    RLE,
    bounding_box,
    decode_columns,
    decode_rle,
    encode_region,
    encode_rle,
    resize_rle,
)
from queryinst_vis.masks.segmentation import (
    MaskError,
    check_segmentation,
    to_masks,
    to_rle,
    to_rles,
)

__all__ = [
    "RLE",
    "InstanceMask",
    "MaskError",
    "MaskRegion",
    "bounding_box",
    "check_segmentation",
    "decode_columns",
    "decode_rle",
    "encode_region",
    "encode_rle",
    "resize_rle",
    "to_masks",
    "to_rle",
    "to_rles",
]
