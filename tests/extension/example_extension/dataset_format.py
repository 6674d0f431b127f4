import cv2
import numpy as np

from queryinst_vis.data.convert import LabelledTrack, LabelledVideo
from queryinst_vis.masks import encode_rle


def read(src):
    """Read folders of *.jpg frames, each with a *.png whose pixel values are track numbers."""
    for folder in sorted(path for path in src.iterdir() if path.is_dir()):
        frames = sorted(folder.glob("*.jpg"))
        maps = [cv2.imread(str(path.with_suffix(".png")), cv2.IMREAD_GRAYSCALE) for path in frames]
        tracks = []
        for number in np.unique(maps)[1:]:  # the first is 0, the background
            shown = [pixels == number for pixels in maps]
            masks = [encode_rle(mask) if mask.any() else None for mask in shown]
            tracks.append(LabelledTrack("object", masks))
        names = [path.relative_to(src).as_posix() for path in frames]
        height, width = maps[0].shape
        yield LabelledVideo(names, height, width, tracks)
