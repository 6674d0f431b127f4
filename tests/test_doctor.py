"""``doctor``: what an installation supports, and what is missing."""

import builtins
import subprocess
import sys

import pytest

import queryinst_vis
from queryinst_vis import cli
from queryinst_vis.cli import doctor

SECTIONS = ["versions", "devices", "video", "space", "optional packages", "performance"]


def sections(text):
    """``{title: lines}`` of what was printed."""
    found, title = {}, ""
    for line in text.splitlines():
        if line.startswith("  "):
            found[title].append(line.strip())
        else:
            title = line.removesuffix(":")
            found[title] = []
    return found


def test_doctor_reports_on_every_part(capsys):
    assert cli.main(["doctor"]) == 0
    found = sections(capsys.readouterr().out)
    assert list(found) == SECTIONS
    assert queryinst_vis.__version__ in found["versions"][0]
    assert any(line.startswith("cpu: ") for line in found["devices"])
    assert any("h264" in line and "libx264" in line for line in found["video"])
    assert any("GiB free" in line for line in found["space"])
    assert not any("FAILED" in line for lines in found.values() for line in lines)


@pytest.mark.parametrize(("module", "title"), [("torch", "devices"), ("av", "video")])
def test_doctor_reports_broken_parts_and_continues(module, title, monkeypatch, capsys):
    original = builtins.__import__

    def broken(name, *arguments, **options):
        if name.split(".")[0] == module:
            raise ImportError(f"{module}: undefined symbol")
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", broken)
    assert cli.main(["doctor"]) == 0
    found = sections(capsys.readouterr().out)
    assert f"FAILED: ImportError: {module}: undefined symbol" in found[title]
    assert any("GiB free" in line for line in found["space"])


def test_missing_packages_are_listed_with_their_install_command(monkeypatch, capsys):
    names = ["torch>=2", "kaleidoscope>=3", "onnx>=1; extra == 'onnx'", "prisms; extra == 'onnx'"]
    names += ["queryinst-vis[onnx]; extra == 'batch'"]
    monkeypatch.setattr(doctor, "requires", lambda package: names)
    assert cli.main(["doctor"]) == 0
    found = sections(capsys.readouterr().out)
    assert "MISSING: kaleidoscope: pip install kaleidoscope" in found["versions"]
    batch, onnx = found["optional packages"]
    assert onnx.startswith("onnx: missing ") and "prisms" in onnx
    assert batch.startswith("batch: missing ") and "prisms" in batch, "it includes onnx"
    assert onnx.endswith("pip install 'queryinst-vis[onnx]'")


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"queryinst-vis {queryinst_vis.__version__}\n"


def test_python_m_queryinst_vis_runs_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "queryinst_vis", "--version"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.split()[0]) == (0, "queryinst-vis")
