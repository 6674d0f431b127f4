"""``convert-dataset``: the help of every format has examples that parse."""

from __future__ import annotations

import shlex

import pytest

from queryinst_vis import cli

FORMATS = [
    "youtube-vis",
    "mots",
    "to-mots",
    "davis",
    "labelme",
    "cvat",
    "cityscapes",
    "coco-video",
    "synthetic",
]


def read_help(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        cli.main(["convert-dataset", *words, "--help"])
    assert end.value.code == 0
    return capsys.readouterr().out


def test_the_help_lists_every_format(capsys):
    listed = [
        line.split()[0]
        for line in read_help(capsys).splitlines()
        if line.startswith("    ") and not line.startswith("     ")
    ]
    assert [name for name in listed if name != "DATASET"] == FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_examples_are_command_lines_that_parse(capsys, name):
    text = read_help(capsys, name)
    examples = text.partition("example")[2].splitlines()[1:]
    assert examples
    for example in examples:
        program, *words = shlex.split(example)
        assert program == "queryinst-vis"
        assert words[:2] == ["convert-dataset", name]
        cli.build_parser().parse_args(words)


def test_data_convert_is_convert_dataset():
    words = ["mots", "src", "dst.json", "--clip-length", "9"]
    one = cli.parse_arguments(["convert-dataset", *words])
    assert cli.parse_arguments(["data", "convert", *words]) == one
