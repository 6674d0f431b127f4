"""Videos, masks and MOTS lines for the tests of result conversion."""

from eval_cases import HEIGHT, WIDTH, rle

LEFT, RIGHT, BOTH = rle(0, 0, 100, 100), rle(100, 0, 200, 100), rle(0, 0, 200, 100)

CAR, PERSON = 5, 3


def video(id_, folder, numbers=(0, 1), **more):
    names = [f"{folder}/{number:06d}.jpg" for number in numbers]
    size = {"height": HEIGHT, "width": WIDTH, "length": len(names)}
    return {"id": id_, "file_names": names, **size, **more}


def video_set(*videos, classes=((CAR, "car"), (PERSON, "person"))):
    """Videos and classes as a public validation file has them: without annotations."""
    categories = [{"id": id_, "name": name} for id_, name in classes]
    return {"videos": list(videos), "categories": categories}


def line(frame, id_, label, mask):
    return f"{frame} {id_} {label} {HEIGHT} {WIDTH} {mask['counts']}"


def lines_of(folder, name):
    return (folder / f"{name}.txt").read_text().splitlines()
