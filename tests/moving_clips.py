"""Videos of which every frame depends on those before, in many codecs and containers."""

import av
import numpy as np

from tests.clips import HEIGHT, WIDTH

FRAMES = 60
random = np.random.default_rng(0)
SPOTS = random.integers(0, 255, (FRAMES + 8, HEIGHT, WIDTH, 3), dtype=np.uint8)


def moving(index):
    """A picture that depends on the previous ones: noise that fades in and out."""
    picture = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    for age in range(8):
        column = 8 * ((index - age) % 8)
        picture[:, column : column + 8] = SPOTS[index - age + 8, :, column : column + 8]
    return picture


def write_moving(path, codec="libx264", rate=10, format=None, pix_fmt="yuv420p", **options):
    with av.open(str(path), "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        for index in range(FRAMES):
            picture = av.VideoFrame.from_ndarray(moving(index), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


CLIPS = {
    "h264, B-frames": ("mp4", {"g": "12", "bf": "3"}),
    "h264, no B-frames": ("mp4", {"g": "12", "bf": "0"}),
    "h264 in Matroska": ("mkv", {"g": "12", "bf": "3"}),
    "h264 in MPEG-TS": ("ts", {"g": "12", "bf": "3"}),
    "h264, open GOPs": ("mp4", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}),
    "h264, open GOPs in MPEG-TS": ("ts", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}),
    "h264, refreshed bit by bit": ("mp4", {"g": "12", "bf": "0", "x264-params": "intra-refresh=1"}),
    "h264, interlaced": ("mp4", {"g": "12", "bf": "2", "x264-params": "interlaced=1"}),
    "h264, fragmented": ("mp4", {"g": "12", "bf": "2"}),
    "hevc": ("mp4", {"codec": "libx265", "x265-params": "keyint=12:log-level=0:open-gop=0"}),
    "hevc, open GOPs": ("mkv", {"codec": "libx265", "x265-params": "keyint=12:log-level=0"}),
    "mpeg4": ("mp4", {"codec": "mpeg4", "g": "12", "bf": "2"}),
    "mpeg4 in AVI": ("avi", {"codec": "mpeg4", "g": "12", "bf": "2"}),
    "mpeg2": ("ts", {"codec": "mpeg2video", "rate": 25, "g": "12", "bf": "2"}),
    "mpeg2, program stream": ("mpg", {"codec": "mpeg2video", "rate": 25, "g": "12", "bf": "2"}),
    "vp8": ("webm", {"codec": "libvpx", "g": "12", "auto-alt-ref": "1", "lag-in-frames": "16"}),
    "vp9": ("webm", {"codec": "libvpx-vp9", "g": "12", "lag-in-frames": "16"}),
    "jpeg": ("avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    "raw h264": ("h264", {"g": "12", "bf": "3"}),
    "flv": ("flv", {"g": "12", "bf": "2"}),
}
"""Codecs, structures and containers: ``{name: (suffix, options)}``."""


def available(codec):
    try:
        av.codec.Codec(codec, "w")
    except ValueError:
        return False
    return True


def copy_stream(source, target, start=None, retime=None, **options):
    """Copy the video stream without encoding it again, like ``ffmpeg -ss start -c copy``.

    Before ``start`` (seconds), an mp4 hides the frames since the last key frame. ``retime(n, t)``
    gives the time stamp of packet ``n`` (in ticks) instead of ``t``; ``options`` are the muxer's.
    """
    with av.open(str(source)) as read, av.open(str(target), "w", options=options) as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        shift = 0
        if start is not None:
            shift = round(start / stream.time_base) + (stream.start_time or 0)
            read.seek(shift, stream=stream)
        for number, packet in enumerate(p for p in read.demux(stream) if p.size):
            for name in ("pts", "dts"):
                time = getattr(packet, name)
                if time is not None:
                    setattr(packet, name, retime(number, time) if retime else time - shift)
            packet.stream = copy
            written.mux(packet)
    return target
