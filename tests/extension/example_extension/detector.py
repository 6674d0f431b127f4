import cv2
import numpy as np
import supervision as sv

from queryinst_vis import FunctionDetector


def load(argument, device):
    """``--weights bright:200`` finds regions with a channel above 200."""
    threshold = int(argument or 128)

    def find(frame):
        bright = (frame.max(axis=2) > threshold).astype(np.uint8)
        count, regions = cv2.connectedComponents(bright)
        if count == 1:  # region 0 is the background
            return sv.Detections.empty()
        masks = np.stack([regions == number for number in range(1, count)])
        return sv.Detections(
            xyxy=sv.mask_to_xyxy(masks), mask=masks, class_id=np.zeros(len(masks), dtype=int)
        )

    return FunctionDetector(find, class_names=["bright region"])
