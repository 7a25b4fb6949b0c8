"""Triton python backend: scores padded token ids with the ONNX file beside it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """One instance of the reward model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the graph of this version's folder, on the GPU that Triton gives this instance."""
        folder = Path(args["model_repository"]) / args["model_version"]
        gpu = {"device_id": args["model_instance_device_id"]} if args["model_instance_kind"] == "GPU" else {}
        providers = onnxruntime.get_available_providers()
        options = [gpu if name.startswith(("CUDA", "Tensorrt")) else {} for name in providers]
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), providers=providers, provider_options=options
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers every request: input_ids int64 [B, T] and lengths int64 [B] to score float32 [B]."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        names = ("input_ids", "lengths")
        inputs = {name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in names}
        inputs["lengths"] = inputs["lengths"].reshape(-1)
        try:
            (scores,) = self._session.run(["score"], inputs)
        except Exception as error:  # its exceptions have no base of their own
            return triton.InferenceResponse(error=triton.TritonError(f"scoring failed: {error}"))
        return triton.InferenceResponse([triton.Tensor("score", scores.astype(np.float32))])
