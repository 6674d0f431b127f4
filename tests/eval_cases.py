"""Small ground truth and results that the evaluation tests share."""

import numpy as np

from queryinst_vis.masks import encode_rle

HEIGHT, WIDTH = 400, 300


def box_mask(x0, y0, x1, y1, height=HEIGHT, width=WIDTH):
    mask = np.zeros((height, width), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def rle(*box):
    return encode_rle(box_mask(*box))


def ground_truth(annotations, length=2, videos=(1,), classes=("person", "dog")):
    return {
        "videos": [{"id": v, "height": HEIGHT, "width": WIDTH, "length": length} for v in videos],
        "categories": [{"id": k, "name": name} for k, name in enumerate(classes, start=1)],
        "annotations": [
            {"id": k, "video_id": 1, "category_id": 1, "iscrowd": 0, **annotation}
            for k, annotation in enumerate(annotations, start=1)
        ],
    }


def detection(segmentations, score=0.9, video_id=1, category_id=1):
    return {
        "video_id": video_id,
        "category_id": category_id,
        "score": score,
        "segmentations": segmentations,
    }
