"""Trained policies for use elsewhere: ONNX or safetensors, compared with the original, with a model card."""

from polyfed.export.export import FORMATS, export
from polyfed.export.parity import Parity

__all__ = ["FORMATS", "Parity", "export"]
