"""The best matrix-product rate of this machine: the floor's measure."""

import time

import numpy
import onnxruntime
from onnx import TensorProto, helper

# Rows, inner, columns: those of a step, and shapes that libraries like best.
SHAPES = ((128, 512, 2048), (256, 1024, 4096), (1024, 1024, 1024), (2048, 2048, 2048))
SECONDS = 0.15


def rate(threads: int, torch: bool) -> tuple[float, str]:
    """The fastest f32 product by ONNX Runtime, numpy (with several threads only) and PyTorch, in FLOP/s."""
    best = (0.0, "")
    for m, k, n in SHAPES:
        a, b = (numpy.random.rand(*shape).astype(numpy.float32) for shape in ((m, k), (k, n)))
        for name, product in products(a, b, threads, torch):
            product()
            until = time.perf_counter() + SECONDS
            while True:
                begun = time.perf_counter()
                product()
                ended = time.perf_counter()
                best = max(best, (2 * m * k * n / (ended - begun), f"{name} {m}x{k}x{n}"))
                if ended > until:
                    break
    return best


def products(a, b, threads, torch):
    yield "ONNX Runtime", onnx_product(a, b, threads)
    if threads > 1:  # its threads were chosen when it was loaded
        out = numpy.empty((a.shape[0], b.shape[1]), numpy.float32)
        yield "numpy", lambda: numpy.matmul(a, b, out=out)
    if torch:
        import torch as library

        library.set_num_threads(threads)
        x, y = library.from_numpy(a), library.from_numpy(b)
        yield "PyTorch", lambda: x @ y


def onnx_product(a, b, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "product",
        [value("x", TensorProto.FLOAT, list(a.shape))], [value("y", TensorProto.FLOAT, [a.shape[0], b.shape[1]])],
        [helper.make_tensor("w", TensorProto.FLOAT, list(b.shape), b.tobytes(), raw=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return lambda: session.run(None, {"x": a})
