"""Models as ONNX graphs, for robots without torch."""

from latentwrap.exporting.export import ExportResult, export_onnx

__all__ = ["ExportResult", "export_onnx"]
