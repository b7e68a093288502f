"""Which packages are installed, and whether they are new enough and can be imported."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

from latentwrap._version import __version__
from latentwrap.doctor.findings import Finding, Status
from latentwrap.doctor.isolated import Answer

_NAME = "latentwrap"
_UNLISTED_EXTRAS = ("all", "dev")
LIBRARIES = (
    "stable-baselines3",
    "sb3-contrib",
    "sbx-rl",
    "rl-zoo3",
    "torchrl",
    "tianshou",
    "ray",
    "skrl",
    "d3rlpy",
    "cleanrl",
)
"""RL libraries, by the names under which they are installed."""
MODULES = {
    "numpy": "numpy",
    "gymnasium": "gymnasium",
    "opencv-python": "cv2",
    "h5py": "h5py",
    "hdf5plugin": "hdf5plugin",
    "safetensors": "safetensors.torch",
    "pydantic": "pydantic",
}
"""What is imported of the packages that can be installed and broken; torch has its own check."""
_STAND_INS = {
    "opencv-python": (
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    )
}
_SYSTEM_PACKAGES = {"cv2": "apt-get install libgl1 libglib2.0-0"}

Installed = Callable[[str], "str | None"]
"""The installed version of a package, or `None`."""


@dataclass(frozen=True)
class Requirement:
    """What latentwrap requires of a package.

    Attributes:
        package: its name.
        least: the lowest version; empty for any.
        extra: the optional dependencies that it belongs to; empty where it is always needed.
    """

    package: str
    least: str = ""
    extra: str = ""

    @classmethod
    def parse(cls, line: str) -> Requirement:
        """Read a line of a package's metadata.

        >>> Requirement.parse('tensorboard>=2.15; extra == "train"')
        Requirement(package='tensorboard', least='2.15', extra='train')
        """
        package = re.match(r"[\w.-]+", line)
        least = re.search(r">=\s*([\w.]+)", line.partition(";")[0])
        extra = re.search(r"""extra == ['"]([\w-]+)""", line)
        found = (match.group(index) if match else "" for match, index in ((least, 1), (extra, 1)))
        return cls(package.group() if package else line, *found)

    def met_by(self, version: str) -> bool:
        """Whether a version is new enough.

        >>> Requirement("torch", "2.4").met_by("2.13.0+cpu")
        True
        """
        return _numbers(version) >= _numbers(self.least)


def find_requirements() -> list[Requirement]:
    """What the installed latentwrap requires, also for its extras; nothing if not installed."""
    try:
        lines = metadata.requires(_NAME) or []
    except metadata.PackageNotFoundError:
        return []
    return [Requirement.parse(line) for line in lines]


def installed_version(package: str) -> str | None:
    """The version of an installed package or of one that stands in for it."""
    names = (package, *_STAND_INS.get(package, ()))
    return next((version for name in names if (version := _version(name))), None)


def check_python() -> Finding:
    """Python, the system and latentwrap itself."""
    system = f"{platform.system()} {platform.machine()}"
    found = f"Python {platform.python_version()} on {system}, latentwrap {__version__}"
    return Finding("python", Status.OK, found)


def check_packages(
    requirements: Sequence[Requirement], answer: Answer, installed: Installed = installed_version
) -> Finding:
    """The packages that latentwrap cannot do without.

    Args:
        requirements: of latentwrap.
        answer: of the task `packages`.
        installed: tells versions.
    """
    needed = [each for each in requirements if not each.extra]
    if not needed:
        return Finding(
            "packages",
            Status.WARNING,
            "latentwrap runs from a folder and is not installed: what it requires is unknown",
            mend="pip install -e . in that folder",
        )
    versions = {each: installed(each.package) for each in needed}
    bad = [each for each, found in versions.items() if found is None or not each.met_by(found)]
    if bad:
        said = [f"{each.package} {versions[each] or 'missing'}" for each in bad]
        wanted = " ".join(f"'{each.package}>={each.least}'" for each in bad)
        return Finding(
            "packages", Status.ERROR, "too old or missing: " + ", ".join(said),
            mend=f"pip install {wanted}",
        )  # fmt: skip
    broken = _broken(answer)
    if broken:
        module, reason = next(iter(broken.items()))
        mend = _SYSTEM_PACKAGES.get(module) or f"pip install --force-reinstall {_package(module)}"
        return Finding("packages", Status.ERROR, f"import {module} fails: {reason}", mend=mend)
    named = [each for each in needed if each.package in MODULES or each.package == "torch"]
    return Finding(
        "packages", Status.OK, ", ".join(f"{each.package} {versions[each]}" for each in named)
    )


def check_extras(
    requirements: Sequence[Requirement], installed: Installed = installed_version
) -> Finding:
    """The optional dependencies, by extra."""
    extras: dict[str, list[Requirement]] = {}
    for each in requirements:
        if each.extra and each.extra not in _UNLISTED_EXTRAS:
            extras.setdefault(each.extra, []).append(each)
    lacking = {
        name: lacks for name, needs in extras.items() if (lacks := _lacking(needs, installed))
    }
    if not lacking:
        return Finding("extras", Status.OK, f"all there: {', '.join(extras) or 'none known'}")
    said = "; ".join(f"{name} lacks {', '.join(needs)}" for name, needs in lacking.items())
    return Finding(
        "extras", Status.WARNING, said, mend=f"pip install 'latentwrap[{','.join(lacking)}]'"
    )


def check_libraries(installed: Installed = installed_version) -> Finding:
    """The RL libraries that are installed beside latentwrap."""
    versions = {name: installed(name) for name in LIBRARIES}
    found = [f"{name} {version}" for name, version in versions.items() if version]
    said = ", ".join(found) or "none installed; latentwrap train brings its own SAC"
    return Finding("RL libraries", Status.OK, said)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _lacking(needs: Sequence[Requirement], installed: Installed) -> list[str]:
    versions = [(each, installed(each.package)) for each in needs]
    return [each.package for each, found in versions if found is None or not each.met_by(found)]


def _broken(answer: Answer) -> Mapping[str, str]:
    if answer.trouble:
        return {str(answer.facts.get("stage", "import")).split()[-1]: answer.trouble}
    broken: Mapping[str, str] = answer.facts["broken"]
    return broken


def _package(module: str) -> str:
    return next((name for name, known in MODULES.items() if known == module), module)


def _numbers(version: str) -> tuple[int, ...]:
    """The release as numbers: 2.13.0+cpu and 2.13.0rc1 are (2, 13, 0)."""
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in release.group().split(".")) if release else ()
