"""From images and videos to detections and tracks."""
