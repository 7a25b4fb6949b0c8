import subprocess
import sys

import pytest

HEAVY = ["torch", "transformers", "onnxruntime", "tokenizers", "tritonclient", "safetensors", "jinja2"]

MODULES = [
    "pilothouse.client",
    "pilothouse.server",
    "pilothouse.status",
    "pilothouse.tensors",
    "pilothouse.config",
]


@pytest.mark.parametrize("module", MODULES)
def test_the_sdk_loads_no_model_library(module: str) -> None:
    program = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
