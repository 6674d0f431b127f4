"""Faults of ground truth and results, with the errors that they must cause."""

from eval_cases import box_mask, detection, ground_truth, rle

from queryinst_vis.masks import encode_rle


def valid():
    masks = [rle(0, 0, 100, 100), None]
    return ground_truth([{"segmentations": masks}]), [detection(masks)]


RESULT_FAULTS = {
    "unknown video": ({"video_id": 9}, "results: entry 0: video_id 9 is not in the data set"),
    "unknown class": ({"category_id": 3}, "entry 0: category_id 3 is not in the data set"),
    "id as text": ({"video_id": "1"}, "video_id '1' is not in the data set"),
    "id as list": ({"video_id": [1]}, "video_id [1] is not in the data set"),
    "one frame off": (
        {"segmentations": [None]},
        "entry 0, video 1: `segmentations` must have 2 entries, one per frame, has 1",
    ),
    "not a list": ({"segmentations": None}, "must have 2 entries, one per frame, is None"),
    "wrong size": (
        {"segmentations": [None, encode_rle(box_mask(0, 0, 9, 9, 300, 400))]},
        "frame 1: the mask is 400x300 pixels, its frame 300x400; [height, width] is swapped",
    ),
    "bytes as text": (
        {"segmentations": [{"size": [400, 300], "counts": "b'PPPo0'"}, None]},
        "entry 0, video 1, frame 0: `counts` are Python bytes (b'...'); use .decode('ascii')",
    ),
    "cut off": (
        {"segmentations": [{"size": [400, 300], "counts": "PPPo"}, None]},
        "`counts` are not COCO run lengths",
    ),
    "too short": (  # which pycocotools compares forever
        {"segmentations": [{"size": [400, 300], "counts": [1000, 500]}, None]},
        "frame 0: run lengths add up to 1500 pixels, not to 300 x 400 = 120000",
    ),
    "too long": (
        {"segmentations": [{"size": [400, 300], "counts": [1000, 119001]}, None]},
        "frame 0: run lengths add up to 120001 pixels",
    ),
    "negative run": (
        {"segmentations": [{"size": [400, 300], "counts": [-1, 120001]}, None]},
        "frame 0: `counts` must be non-negative integers",
    ),
    "negative compressed run": (  # 5, 10, 5, then 10 - 12
        {"segmentations": [{"size": [400, 300], "counts": "5:5DRelY3"}, None]},
        "frame 0: a run length is negative",
    ),
    "fraction of a run": (
        {"segmentations": [{"size": [400, 300], "counts": [0.5, 119999.5]}, None]},
        "`counts` must be non-negative integers",
    ),
    "polygon of two points": (  # which pycocotools takes for a box
        {"segmentations": [[[1, 2, 30, 40]], None]},
        "a polygon must be x, y, x, y, ... of three or more finite points, is [1, 2, 30, 40]",
    ),
    "half a point": (
        {"segmentations": [[[1, 2, 3, 4, 5, 6, 7]], None]},
        "three or more finite points, is [1, 2, 3, 4, 5, 6, 7]",
    ),
    "polygon far away": (
        {"segmentations": [[[1, 2, 3, 4, 5, 6e6]], None]},
        "a polygon extends beyond the frame",
    ),
    "NaN in a polygon": (
        {"segmentations": [[[1, 2, 3, 4, 5, float("nan")]], None]},
        "three or more finite points, is [1, 2, 3, 4, 5, nan]",
    ),
    "no counts": (
        {"segmentations": [{"size": [400, 300]}, None]},
        "neither polygons nor an object with `size` and `counts`",
    ),
    "not a mask": (
        {"segmentations": ["mask", None]},
        "frame 0: is 'mask', neither polygons nor an object",
    ),
    "NaN score": ({"score": float("nan")}, "entry 0: `score` must be a finite number, is nan"),
    "infinite score": ({"score": float("inf")}, "`score` must be a finite number, is inf"),
    "score as text": ({"score": "0.9"}, "`score` must be a finite number, is '0.9'"),
}

GROUND_TRUTH_FAULTS = {
    "public validation file": (lambda gt: gt.pop("annotations"), "has no `annotations`"),
    "null annotations": (lambda gt: gt.update(annotations=None), "has no `annotations`"),
    "image data set": (
        lambda gt: gt.update(images=gt.pop("videos")),
        "evaluate it with eval-image",
    ),
    "no videos": (lambda gt: gt.pop("videos"), "`videos` must be a list, is missing"),
    "no classes": (lambda gt: gt.update(categories=[]), "`categories` is empty"),
    "class name twice": (
        lambda gt: gt["categories"][1].update(name="person"),
        "category 2: `name` 'person' is used twice",
    ),
    "id twice": (
        lambda gt: gt["annotations"].append(gt["annotations"][0]),
        "annotations[1]: id 1 is used twice",
    ),
    "id as text": (lambda gt: gt["videos"][0].update(id="1"), "`id` must be an integer, is '1'"),
    "no id": (lambda gt: gt["annotations"][0].pop("id"), "annotations[0]: has no `id`"),
    "unknown video": (
        lambda gt: gt["annotations"][0].update(video_id=5),
        "annotation 1: video_id 5 is not in the file",
    ),
    "unknown class": (
        lambda gt: gt["annotations"][0].update(category_id=5),
        "annotation 1: category_id 5 is not in the file",
    ),
    "no video size": (
        lambda gt: gt["videos"][0].pop("width"),
        "video 1: `width` is None: must be a positive integer",
    ),
    "one frame off": (
        lambda gt: gt["videos"][0].update(file_names=["0.jpg"]),
        "video 1 (0.jpg): `length` is 2 but there are 1 `file_names`",
    ),
    "crowd as text": (
        lambda gt: gt["annotations"][0].update(iscrowd="no"),
        "annotation 1: `iscrowd` must be 0 or 1, is 'no'",
    ),
    "one mask off": (
        lambda gt: gt["annotations"][0]["segmentations"].append(None),
        "annotation 1: `segmentations` must have 2 entries, one per frame, has 3",
    ),
    "areas as text": (
        lambda gt: gt["annotations"][0].update(areas=["large", None]),
        "annotation 1, frame 0: area 'large' is not a number of pixels",
    ),
}
