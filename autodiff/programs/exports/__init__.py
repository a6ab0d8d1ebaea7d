"""Programs in other languages: NumPy source, JAX functions, ONNX models."""

from autodiff.programs.exports.signature import Exported, Signature, bare, recorded, replayed

__all__ = ["Exported", "Signature", "bare", "recorded", "replayed"]
