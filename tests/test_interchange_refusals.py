"""Result conversion: bad input is refused with its place, and nothing half-written stays."""

import pytest
from eval_cases import detection

from queryinst_vis.errors import InputError
from tests.interchange_support import CAR, LEFT, line, video, video_set


def entry(**changes):
    plain = {"image_id": 1, "track_id": 1, "category_id": CAR, "score": 1, "segmentation": LEFT}
    return {**plain, **changes}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([entry(image_id=3)], "entry 0: image_id 3 is not among 1 to 2"),
        ([entry(image_id="1")], "image_id '1' is not among"),
        ([entry(), entry(video_id=8)], "entry 1: image 1 is of video 1, not 8"),
        ([entry(category_id=1)], "category_id 1 is not in the video set"),
        ([entry(category_id=[CAR])], "is not in the video set"),
        ([entry(track_id=None)], "`track_id` must be of type int, is None"),
        ([entry(), entry()], "entry 1: image 1 shows track 1 twice"),
        ([entry(segmentation=None)], "no `segmentation`"),
        ([entry(segmentation={"size": [5, 5], "counts": "i0"})], "5x5 pixels, its frame 300x400"),
    ],
)
def test_bad_coco_video_is_refused(converted, tmp_path, entries, message):
    with pytest.raises(InputError, match=message):
        converted(video_set(video(1, "a")), entries, "results.json")
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1001 1 400", "a.txt, line 2: expected 'frame id class height width rle'"),
        (f"x 1001 1 400 300 {LEFT['counts']}", "line 2: expected 'frame id class"),
        (f"0 {'1' * 5000} 1 400 300 {LEFT['counts']}", "line 2: expected 'frame id class"),
        (f"9 1001 1 400 300 {LEFT['counts']}", "line 2: video 1 has no frame 9, its 2 frames are"),
        (f"0 3001 3 400 300 {LEFT['counts']}", "line 2: class 3 is not in the video set"),
        (f"0 10000 10 400 300 {LEFT['counts']}", "line 2: class 10 marks ignore regions"),
        (f"1 2001 2 400 300 {LEFT['counts']}", "line 2: object 2001 occurs twice in frame 1"),
        ("0 1001 1 400 300 !!", "line 2: `counts` are not COCO run lengths"),
        (f"0 1001 1 300 400 {LEFT['counts']}", "line 2: the mask is 400x300 pixels"),
    ],
)
def test_bad_mots_lines_are_refused(converted, mots_folder, tmp_path, text, message):
    source = mots_folder(a=[line(1, 2001, 2, LEFT), text])
    with pytest.raises(InputError, match=message):
        converted(video_set(video(1, "a")), source, "results.json")
    assert not (tmp_path / "results.json").exists()


def test_mots_folders_must_fit_the_set(converted, mots_folder):
    source = mots_folder(a=[])
    with pytest.raises(InputError, match=r"b\.txt: no such file"):
        converted(video_set(video(1, "a"), video(2, "b")), source, "results.json")
    with pytest.raises(InputError, match=r"a\.txt: .*no such sequence"):
        converted(video_set(video(2, "b")), source, "results.json")


def test_a_failed_conversion_leaves_no_output(converted, tmp_path):
    gt = video_set(video(1, "a"), video(2, "b"))
    broken = detection([LEFT], video_id=2, category_id=CAR)  # a mask short
    results = [detection([LEFT, LEFT], category_id=CAR), broken]
    with pytest.raises(InputError, match="entry 1"):
        converted(gt, results, "mots")
    with pytest.raises(InputError, match="entry 1"):
        converted(gt, results, "coco.json", to="coco-video")
    assert {path.name for path in tmp_path.iterdir()} == {"gt.json", "source.json"}


def test_a_folder_with_files_is_not_modified(converted, tmp_path):
    (tmp_path / "mots").mkdir()
    (tmp_path / "mots" / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match="not an empty folder"):
        converted(video_set(video(1, "a")), [detection([LEFT, None], category_id=CAR)], "mots")
    assert (tmp_path / "mots" / "mine.txt").read_text() == "kept"


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("again.json", {}, "is youtube-vis already; choose the target format with --to"),
        ("results.csv", {}, "end it in .json"),
        ("mots", {"to": "kitti"}, "format 'kitti': choose"),
        ("coco.json", {"to": "coco-video", "first_frame": 1}, "--first-frame and --class are for"),
        ("coco.json", {"to": "coco-video", "classes": {"car": 1}}, "are for MOTS"),
        ("mots", {"classes": {"bus": 3}}, "class 'bus' is not in the video set"),
        ("mots", {"classes": {"car": 10}}, "class 10 of MOTS is for ignore regions"),
        ("mots", {"classes": {"car": 2}}, "classes person and car are both class 2 of MOTS"),
    ],
)
def test_contradictory_options_are_refused(converted, tmp_path, target, options, message):
    results = [detection([LEFT, None], category_id=CAR)]
    with pytest.raises(InputError, match=message):
        converted(video_set(video(1, "a")), results, target, **options)
    assert not (tmp_path / target).exists()


def test_a_class_unknown_to_mots_is_refused(converted):
    gt = video_set(video(1, "a"), classes=((1, "car"), (2, "dog")))
    with pytest.raises(InputError, match=r"entry 0: .*'dog'"):
        converted(gt, [detection([LEFT, None], category_id=2)], "mots")


def test_more_tracks_than_mots_ids_are_refused(converted):
    results = [detection([LEFT, None], category_id=CAR)] * 1000
    with pytest.raises(InputError, match=r"entry 999: .*999 objects .*class 1"):
        converted(video_set(video(1, "a")), results, "mots")


def test_two_videos_never_share_a_file(converted):
    videos = [video(1, "a"), video(2, "a"), video(3, "a-1")]
    with pytest.raises(InputError, match="sequence 'a-1'"):
        converted(video_set(*videos), [detection([LEFT, None], category_id=CAR)], "mots")


def test_a_sequence_name_cannot_escape_the_target_folder(converted):
    gt = video_set(video(1, "a") | {"file_names": ["../../0.jpg", "../../1.jpg"]})
    folder = converted(gt, [detection([LEFT, None], category_id=CAR)], "mots")
    assert [path.name for path in folder.iterdir()] == ["1.txt"]


def test_swapped_arguments_are_recognised(converted):
    results = [detection([LEFT, None], category_id=CAR)]
    with pytest.raises(InputError, match="swapped"):
        converted(results, results, "mots")
