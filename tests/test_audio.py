"""The annotated video has the audio of its source, cut to and in sync with the frames."""

from fractions import Fraction

import av
import numpy as np
import pytest

from queryinst_vis.errors import InputWarning
from queryinst_vis.inference import track
from queryinst_vis.inference.track import track_video
from queryinst_vis.video.frames import Selection
from tests.tiny import draw_frame
from tests.tracking_support import KnowingTracker

FPS, RATE, FRAMES = 10, 48000, 40
BEEP = 2.0  # seconds until the tone, at frame 20


def write_with_sound(path, codec, rate=RATE, layout="mono"):
    """Four seconds of moving boxes; silent, then a tone."""
    samples = np.sin(2 * np.pi * 440 * np.arange(4 * rate) / rate) * 0.5
    samples[: int(BEEP * rate)] = 0
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"g": "5", "bf": "0"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        audio = container.add_stream(codec, rate=rate)
        audio.layout = layout
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(draw_frame(index % 12), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(video.encode(frame))
            part = samples[index * rate // FPS : (index + 1) * rate // FPS]
            channels = 1 if layout == "mono" else 2
            packed = np.repeat((part * 32767).astype(np.int16), channels)[None]
            sound = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
            sound.rate, sound.pts = rate, index * rate // FPS
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return path


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.setattr(track, "load_tracker", lambda *_: KnowingTracker())
    return tmp_path / "out"


def heard(path):
    """Codec of the audio, its end, and the start of the tone, in seconds."""
    with av.open(str(path)) as container:
        audio = container.streams.audio[0]
        end, beep = 0.0, None
        for frame in container.decode(audio):
            samples = frame.to_ndarray().astype(float)
            if np.issubdtype(frame.to_ndarray().dtype, np.integer):
                samples /= 32767
            end = frame.time + frame.samples / frame.sample_rate
            if beep is None and np.abs(samples).max() > 0.2:
                beep = frame.time
        return audio.codec_context.name, end, beep


@pytest.mark.parametrize(
    ("file", "codec", "written"),
    [
        ("clip.mp4", "aac", "aac"),
        ("clip.ts", "aac", "aac"),
        ("clip.mkv", "libopus", "opus"),
        ("clip.mkv", "mp3", "mp3float"),
        ("clip.mov", "pcm_s16le", "aac"),
        ("clip.mkv", "flac", "aac"),
    ],
)
def test_audio_is_copied_if_mp4_supports_the_codec_and_reencoded_otherwise(
    tmp_path, out, file, codec, written
):
    path = write_with_sound(tmp_path / file, codec, layout="stereo")
    track_video(path, out)
    name, end, beep = heard(out / "clip.mp4")
    assert name == written
    assert end == pytest.approx(FRAMES / FPS, abs=0.15)
    assert beep == pytest.approx(BEEP, abs=0.08)


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
@pytest.mark.parametrize(
    ("selection", "seconds", "beep"),
    [
        (Selection(start=1.5, end=3.0), 1.5, 0.5),
        (Selection(stride=4), 4.0, 2.0),
        (Selection(start_frame=10, max_frames=5), 0.5, None),
        (Selection(start=2.5), 1.5, 0.0),
    ],
)
def test_audio_is_cut_to_the_selected_frames(tmp_path, out, codec, selection, seconds, beep):
    path = write_with_sound(tmp_path / "clip.mov", codec)
    track_video(path, out, selection=selection)
    _, end, begins = heard(out / "clip.mp4")
    assert end == pytest.approx(seconds, abs=0.1)
    assert begins == (None if beep is None else pytest.approx(beep, abs=0.08))


@pytest.fixture
def logged_errors():
    """What FFmpeg reports as an error, in any thread."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    with av.logging.Capture(local=False) as messages:
        yield messages
    av.logging.set_level(before)


def test_audio_and_video_streams_have_the_same_length(tmp_path, out, logged_errors):
    path = write_with_sound(tmp_path / "clip.mp4", "aac")
    track_video(path, out)
    with av.open(str(out / "clip.mp4")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert audio.codec_context.name == "aac"
        assert float(video.duration * video.time_base) == pytest.approx(4.0, abs=0.01)
        assert float(audio.duration * audio.time_base) == pytest.approx(4.0, abs=0.1)
    assert logged_errors == []


def test_unusual_sample_rates_and_unsupported_codecs_are_reencoded(tmp_path, out):
    path = write_with_sound(tmp_path / "clip.mkv", "pcm_s16le", rate=6000)
    track_video(path, out)
    assert heard(out / "clip.mp4")[0] == "aac"


def test_a_damaged_audio_track_does_not_stop_the_video(tmp_path, out):
    path = write_with_sound(tmp_path / "clip.mkv", "flac")
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    path.write_bytes(path.read_bytes().replace(packets[9], bytes(len(packets[9]))))
    with pytest.warns(InputWarning, match=r"clip\.mkv: its audio"):
        assert track_video(path, out).frames == FRAMES


def test_a_video_without_audio_is_written_without_audio(tmp_path, out):
    from queryinst_vis.video import VideoWriter

    with VideoWriter(tmp_path / "clip.mp4", 10) as writer:
        for index in range(5):
            writer.write(draw_frame(index))
    track_video(tmp_path / "clip.mp4", out)
    with av.open(str(out / "clip.mp4")) as container:
        assert not container.streams.audio
