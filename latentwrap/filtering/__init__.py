"""Filtering without torch: what all filters share, and the runner of exported graphs."""

from latentwrap.filtering.onnx import OnnxFilter
from latentwrap.filtering.streaming import StreamFilter

__all__ = ["OnnxFilter", "StreamFilter"]
