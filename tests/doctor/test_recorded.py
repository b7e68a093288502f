"""What a checkpoint tells the doctor about the environment it is of."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import make_tiny_model

from latentwrap.doctor.tasks import _recorded
from latentwrap.models import save_model
from latentwrap.pixels import Camera, FrameSpec
from latentwrap.vectors import VectorSpec


def test_a_checkpoint_tells_where_images_and_vectors_are(tmp_path: Path) -> None:
    frame = FrameSpec(
        height=16, width=32, cameras=(Camera(name="front"), Camera(name="wrist")), layout="CHW"
    )
    path = tmp_path / "arm.safetensors"
    vectors = VectorSpec(names=("joints",), sizes=(2,))
    save_model(path, make_tiny_model(frame=frame, vectors=vectors), training={})
    assert _recorded(str(path)) == {
        "image_keys": ("front", "wrist"),
        "vector_keys": ("joints",),
        "layout": "CHW",
        "rendering": "full",
    }


def test_nothing_is_told_where_there_is_nothing_to_tell(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    save_model(path, make_tiny_model(), training={})
    assert _recorded(str(path)) == {"rendering": "full"}
    assert _recorded(None) == _recorded(str(tmp_path / "none.safetensors")) == {}
