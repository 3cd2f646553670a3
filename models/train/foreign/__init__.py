"""Small ONNX models as other toolkits export them, and what they must say, in plain numpy."""
