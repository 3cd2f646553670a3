"""Trains an LSTM language model from plain text and writes it as ONNX for secondpass."""
