"""What an ONNX file reaches out to, found before a runtime opens it."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pilothouse.errors import CorruptDataError, PilothouseError, UnsafeModelError
from pilothouse.models.reward_files import write_manifest
from pilothouse.reward.backends.base import Buckets
from pilothouse.reward.backends.onnx import OnnxBackend
from pilothouse.reward.backends.onnx_files import external_files


def external(location: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "weight")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value="16")
    return tensor


def model(*, initializers: Sequence[TensorProto] = (), nodes: Sequence[onnx.NodeProto] = ()) -> bytes:
    graph = helper.make_graph(nodes, "graph", [], [], initializer=initializers)
    content: bytes = helper.make_model(graph).SerializeToString()
    return content


def found(content: bytes, tmp_path: Path) -> set[str]:
    (tmp_path / "model.onnx").write_bytes(content)
    return external_files(tmp_path / "model.onnx")


def test_a_self_contained_graph_reaches_for_nothing(onnx_folder: Path) -> None:
    assert external_files(onnx_folder / "model.onnx") == set()


def test_external_weights_are_found(tmp_path: Path) -> None:
    assert found(model(initializers=[external("weights.data")]), tmp_path) == {"weights.data"}


def test_external_tensors_are_found_inside_nodes_and_nested_graphs(tmp_path: Path) -> None:
    inner = helper.make_graph([], "inner", [], [], initializer=[external("../../etc/passwd")])
    constant = helper.make_node("Constant", [], ["x"], value=external("/etc/shadow"))
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    assert found(model(nodes=[constant, branch]), tmp_path) == {"../../etc/passwd", "/etc/shadow"}


def test_external_tensors_are_found_inside_functions(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["x"], value=external("hidden.data"))
    function = helper.make_function("local", "f", [], ["x"], [constant], [helper.make_opsetid("", 18)])
    content = helper.make_model(helper.make_graph([], "graph", [], []), functions=[function])
    assert found(content.SerializeToString(), tmp_path) == {"hidden.data"}


def test_a_compiled_engine_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("EPContext", [], ["x"], domain="com.microsoft", ep_cache_context="/tmp/engine")
    with pytest.raises(UnsafeModelError, match="EPContext"):
        found(model(nodes=[node]), tmp_path)


def test_a_backend_refuses_external_data_that_the_manifest_does_not_name(
    onnx_folder: Path, tmp_path: Path
) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((onnx_folder / name).read_bytes())
    (tmp_path / "model.onnx").write_bytes(model(initializers=[external("../outside.data")]))
    write_manifest(tmp_path, max_sequence_tokens=8)
    with pytest.raises(UnsafeModelError, match=r"\.\./outside\.data"):
        OnnxBackend(tmp_path, Buckets((8,)))


def test_too_deep_nesting_is_refused(tmp_path: Path) -> None:
    def field(number: int, content: bytes) -> bytes:
        size = len(content)
        return bytes([number << 3 | 2, size & 0x7F | 0x80, size >> 7]) + content

    graph = b""
    for _ in range(40):  # graph, in an attribute, of a node, of a graph
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(CorruptDataError, match="nests deeper"):
        found(field(7, graph), tmp_path)


@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_by_name(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzz.onnx"
    file.write_bytes(content)
    with suppress(PilothouseError):
        external_files(file)
