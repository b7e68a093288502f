"""The process that reads files first: what it survives, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from latentwrap_test_data import write_dataset

from latentwrap.datasets import Dataset
from latentwrap.datasets.guarding.opening import FileIdentity, open_checked
from latentwrap.datasets.guarding.probe import DECODED_PER_SECOND, Limits, Prober, prober
from latentwrap.datasets.guarding.rules import RULES, Suspect
from latentwrap.datasets.guarding.walk import Walk
from latentwrap.errors import DatasetError

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
QUICK = Limits(cpu=1, wall=20, memory=2**30)


@pytest.fixture(params=[True, False], ids=["fork", "no fork"])
def both(request: pytest.FixtureRequest) -> Iterator[Prober]:
    """Probers of both kinds; that without fork serves systems that have none."""
    fork = request.param and hasattr(os, "fork")
    found = Prober(QUICK if fork else Limits(cpu=1, wall=4, memory=2**30), fork=fork)
    yield found
    found.close()


def identity(path: Path) -> FileIdentity:
    return FileIdentity.of(path, path.stat())


def looping(path: Path) -> Path:
    """A file whose texts lie in a heap that the HDF5 library walks through for ever."""
    write_dataset(path, [3])
    content = bytearray(path.read_bytes())
    size = content.index(b"GCOL") + 24
    content[size : size + 8] = struct.pack("<Q", 2**64 - 16)  # the step to the next text is 0
    path.write_bytes(bytes(content))
    return path


def test_sound_and_damaged_files_in_turn(both: Prober, path: Path, tmp_path: Path) -> None:
    write_dataset(path, [3])
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(path.read_bytes()[:2000])
    for _ in range(3):
        both.examine(path, identity(path), "layout")
        with pytest.raises(DatasetError, match=r"damaged.h5 is no whole HDF5 file \(.*\): get"):
            both.examine(damaged, identity(damaged), "layout")


def test_a_hang_is_a_refusal_and_the_next_file_is_read(
    both: Prober, path: Path, tmp_path: Path
) -> None:
    endless = looping(tmp_path / "endless.h5")
    with pytest.raises(DatasetError, match=r"endless.h5 (kept the HDF5|crashed the process)"):
        both.examine(endless, identity(endless), "layout")
    write_dataset(path, [3])
    both.examine(path, identity(path), "layout")


def test_a_file_is_given_time_for_what_it_claims_to_hold(tmp_path: Path) -> None:
    path, rows, expected = tmp_path / "zeros.h5", (300, 64, 64, 3), []
    with h5py.File(path, "w") as file:
        zeros = np.zeros(rows, np.uint8)
        file.create_dataset("x", data=zeros, compression="gzip", chunks=(50, *rows[1:]))
    size = path.stat().st_size
    with h5py.File(path) as file, path.open("rb") as plain:
        suspect = Suspect("x", size, plain.fileno(), RULES["foreign"], expected.append)
        Walk(suspect).run(file)
    assert sum(expected) == zeros.nbytes
    assert Limits.of(400_000).decoding * DECODED_PER_SECOND == 400_000_000
    assert Limits.of(2**40).decoding == 600  # seconds, that a bomb ends


@needs_fork
def test_a_looping_file_is_no_dataset(path: Path) -> None:
    with pytest.raises(DatasetError, match=r"kept the HDF5 library busy for more than 2 s.*anew\."):
        Dataset(looping(path))


BUSY = "exec('while time.process_time() < start + {}: pass') or {{}}"
FATES = {
    "crash": ("os.kill(os.getpid(), 11)", {"died": "SIGSEGV"}),
    "abort": ("os.abort()", {"died": "SIGABRT"}),
    "exit": ("os._exit(3)", {"died": "exit code 3"}),
    "error": ("1 / 0", {"died": "exit code 1"}),
    "loop": ("exec('while True: pass')", {"died": "SIGXCPU"}),
    "too long a loop": (f"expect(10**9) or {BUSY.format(30)}", {"died": "SIGXCPU"}),
    "decoding": (f"expect(1500) or expect(500) or {BUSY.format(2)}", {}),
    "less decoding": (f"expect(900) or {BUSY.format(2)}", {"died": "SIGXCPU"}),
    "sleep": ("time.sleep(60)", {"died": "SIGALRM"}),
    "output": ("open('written', 'wb', 0).write(b'x')", {"died": "exit code 1"}),
    "files": ("[open(os.devnull) for _ in range(99)]", {"died": "exit code 1"}),
    "memory": ("bytes(2**31) and {}", {"died": "exit code 1"}),
    "less memory": ("bytes(2**29) and {}", {}),
}
FATE = """
import json, os, sys, time
from latentwrap.datasets.guarding import probe_child
start = time.process_time()
probe_child.examined = lambda request, expect: eval(sys.argv[1])
limits = {"cpu": 1, "wall": 20, "memory": 2**30, "decoding": 2, "decoded_per_second": 1000}
print(json.dumps(probe_child.forked({"limits": limits})))
"""


@needs_fork
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other limits")
@pytest.mark.parametrize("name", FATES)
def test_what_happens_to_the_child_is_told(name: str, tmp_path: Path) -> None:
    code, answer = FATES[name]
    command = [sys.executable, "-c", FATE, code]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(found.stdout) == answer
    assert all(not file.read_bytes() for file in tmp_path.iterdir())


@needs_fork
def test_a_killed_process_is_replaced(path: Path) -> None:
    write_dataset(path, [3])
    ours = Prober(QUICK)
    try:
        ours.examine(path, identity(path), "layout")
        first = ours._process
        assert first is not None
        first.kill()
        first.wait()
        ours.examine(path, identity(path), "layout")
        assert ours._process is not first
    finally:
        ours.close()


def test_a_process_that_cannot_start_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(path, [3])
    monkeypatch.setattr("latentwrap.datasets.guarding.probe.BOOT", "raise SystemExit(1)")
    ours = Prober(QUICK)
    with pytest.raises(DatasetError, match="crashed the process that reads files first"):
        ours.examine(path, identity(path), "layout")
    ours.close()


def test_threads_ask_one_after_the_other(path: Path, tmp_path: Path) -> None:
    write_dataset(path, [3])
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(path.read_bytes()[:2000])
    ours, verdicts = Prober(QUICK), []

    def ask(file: Path) -> None:
        try:
            ours.examine(file, identity(file), "layout")
            verdicts.append((file, True))
        except DatasetError:
            verdicts.append((file, False))

    threads = [threading.Thread(target=ask, args=(f,)) for f in (path, damaged) * 15]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ours.close()
    assert sorted(verdicts) == sorted([(path, True), (damaged, False)] * 15)


def test_a_file_just_written_is_not_remembered(path: Path) -> None:
    """It may be written again within the same tick of the clock."""
    write_dataset(path, [3])
    ours = Prober(QUICK)
    ours.examine(path, identity(path), "layout")
    assert not ours._passed
    os.utime(path, (1, 1))
    ours.examine(path, identity(path), "layout")
    ours.close()
    ours.examine(path, identity(path), "layout")
    assert ours._process is None  # nobody had to be asked


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_is_left_when_a_program_ends(path: Path) -> None:
    """Warnings are errors there: an unclosed pipe or an unfinished process would show."""
    write_dataset(path, [3])
    code = (
        "import sys\n"
        "from latentwrap.datasets import Dataset\n"
        "from latentwrap.datasets.guarding.probe import prober\n"
        "Dataset(sys.argv[1])\n"
        "print(prober()._process.pid)"
    )
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code, str(path)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stderr == ""
    assert not Path(f"/proc/{int(found.stdout)}").exists()


ORPHANS = """
import os, sys
from latentwrap.datasets import Dataset
from latentwrap.datasets.guarding.probe import prober

Dataset(sys.argv[1])
helper = prober()._process.pid
if not os.fork():
    Dataset(sys.argv[1])
    own = prober()._process.pid
    prober().close()
    print(own != helper, flush=True)
    os._exit(0)
os.wait()
Dataset(sys.argv[1])
print(prober()._process.pid == helper, helper)
os.kill(os.getpid(), 9)
"""


@needs_fork
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_fork_has_its_own_and_a_killed_program_leaves_none(path: Path) -> None:
    write_dataset(path, [3])
    later = time.time() + 3600
    os.utime(path, (later, later))  # so that no verdict is kept
    command = [sys.executable, "-c", ORPHANS, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        own, rest = program.stdout.read().splitlines() or ["", ""]
    assert own == "True"
    same, helper = rest.split()
    assert same == "True"
    gone = Path(f"/proc/{helper}")
    deadline = time.monotonic() + 60
    while gone.exists() and time.monotonic() < deadline:
        if ") Z " in (gone / "stat").read_text():
            break  # ended; whoever inherited it has not looked yet
        time.sleep(0.05)
    assert time.monotonic() < deadline


def test_the_folder_and_the_search_path_do_not_matter(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file named like a module lies in the current folder, and the file's name is relative."""
    write_dataset(path, [3])
    (tmp_path / "h5py.py").write_text("raise SystemExit('wrong module')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    prober().close()
    Dataset(path.name)
    open_checked(path.name).close()
