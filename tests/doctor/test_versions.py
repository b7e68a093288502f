"""Installed packages against what latentwrap requires."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

from latentwrap.doctor import Status, versions
from latentwrap.doctor.isolated import Answer
from latentwrap.doctor.versions import Requirement, check_extras, check_libraries, check_packages

WHOLE = Answer({"broken": {}})
NEEDED = [Requirement("torch", "2.4"), Requirement("opencv-python", "4.8")]


@pytest.mark.parametrize(
    ("least", "version", "met"),
    [
        ("2.4", "2.13.0+cpu", True),
        ("2.4", "2.4", True),
        ("2.4", "2.3.9", False),
        ("1.0", "1.0.0rc1", True),
        ("0.4.3", "0.4", False),
        ("", "1", True),
    ],
)
def test_versions_are_numbers_and_no_text(least: str, version: str, met: bool) -> None:
    assert Requirement("any", least).met_by(version) is met


def test_requirements_are_those_of_the_project_file() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    block = text.partition("\ndependencies = [")[2].partition("]")[0]
    found = versions.find_requirements()
    core = {(each.package, each.least) for each in found if not each.extra}
    assert core == set(re.findall(r'"([\w-]+)>=([\d.]+)"', block))
    assert Requirement("stable-baselines3", "2.3", "sb3") in found


def test_what_is_there_is_named_with_its_version() -> None:
    installed = {"torch": "2.13.0", "opencv-python": "5.0"}.get
    finding = check_packages(NEEDED, WHOLE, installed)
    assert (finding.status, finding.finding) == (Status.OK, "torch 2.13.0, opencv-python 5.0")


def test_old_and_missing_packages_are_red_with_the_line_that_mends() -> None:
    finding = check_packages(NEEDED, WHOLE, {"torch": "1.9.0"}.get)
    assert finding.status is Status.ERROR
    assert finding.finding == "too old or missing: torch 1.9.0, opencv-python missing"
    assert finding.mend == "pip install 'torch>=2.4' 'opencv-python>=4.8'"


def test_a_library_that_the_system_lacks_is_red() -> None:
    broken = Answer({"broken": {"cv2": "ImportError: libGL.so.1: cannot open shared object file"}})
    finding = check_packages(NEEDED, broken, lambda _: "9.0")
    assert finding.status is Status.ERROR
    assert "import cv2 fails: ImportError: libGL.so.1" in finding.finding
    assert finding.mend == "apt-get install libgl1 libglib2.0-0"


def test_an_import_that_crashes_is_red() -> None:
    crashed = Answer({"stage": "import hdf5plugin"}, "crashed (SIGILL)")
    finding = check_packages(NEEDED, crashed, lambda _: "9.0")
    assert finding.status is Status.ERROR
    assert finding.finding == "import hdf5plugin fails: crashed (SIGILL)"
    assert finding.mend == "pip install --force-reinstall hdf5plugin"


def test_a_folder_that_is_not_installed_is_yellow(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> list[str]:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "requires", missing)
    finding = check_packages(versions.find_requirements(), WHOLE)
    assert finding.status is Status.WARNING
    assert "pip install" in finding.mend


def test_opencv_may_come_in_another_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name != "opencv-python-headless":
            raise metadata.PackageNotFoundError
        return "4.10"

    monkeypatch.setattr(metadata, "version", version)
    assert versions.installed_version("opencv-python") == "4.10"
    assert versions.installed_version("torch") is None


def test_extras_that_lack_something_are_yellow() -> None:
    needs = [
        Requirement("tensorboard", "2.15", "train"),
        Requirement("matplotlib", "3.8", "report"),
        Requirement("Jinja2", "3.1", "report"),
        Requirement("pytest", "8.2", "dev"),
    ]
    installed = {"tensorboard": "2.21.0", "matplotlib": "3.7", "Jinja2": "3.1.6"}
    finding = check_extras(needs, installed.get)
    assert finding.status is Status.WARNING
    assert finding.finding == "report lacks matplotlib"
    assert finding.mend == "pip install 'latentwrap[report]'"
    finding = check_extras(needs, {**installed, "matplotlib": "3.8"}.get)
    assert (finding.status, finding.finding) == (Status.OK, "all there: train, report")


def test_libraries_are_listed_or_none() -> None:
    found = check_libraries({"skrl": "1.4", "ray": "2.50"}.get)
    assert (found.status, found.finding) == (Status.OK, "ray 2.50, skrl 1.4")
    assert "none installed" in check_libraries(lambda _: None).finding
