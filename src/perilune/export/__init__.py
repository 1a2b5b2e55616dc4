"""Export a trained agent as ONNX, C, JavaScript or one Python file."""

from perilune.export.write import TARGETS, export_agent

__all__ = ["TARGETS", "export_agent"]
