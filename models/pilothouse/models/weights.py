"""The weights of a decoder by role instead of by name, over live parameters or in the engine's layout."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from pilothouse.models.spec import DecoderSpec, decoder_spec


def lean(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Calls a function of small operations; what lies between is computed again when gradients are.

    Norms and activations take little time, but all that autograd keeps of them is a third of the memory of a
    training step. A product at the end is not repeated: recomputing stops where all is there again.
    """
    if not torch.is_grad_enabled():
        return function(*inputs)
    result: Tensor = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
    return result


@dataclass(slots=True)
class Linear:
    """An affine map; ``weight`` is [out, in], or [in, out] where ``transposed`` (GPT-2's own storage)."""

    weight: Tensor
    bias: Tensor | None = None
    transposed: bool = False

    def __call__(self, inputs: Tensor) -> Tensor:
        """Returns [N, out] of [N, in]."""
        # Not a view made once: parameters may be frozen and thawed between calls.
        return F.linear(inputs, self.weight.t() if self.transposed else self.weight, self.bias)


@dataclass(slots=True)
class Norm:
    """RMS norm, or layer norm where there is a bias; over the last axis."""

    weight: Tensor
    bias: Tensor | None
    eps: float
    offset: float = 0.0

    def __call__(self, inputs: Tensor) -> Tensor:
        """Returns the normalised inputs, same shape; an RMS norm is computed again where gradients are."""
        if self.bias is not None:
            return F.layer_norm(inputs, self.weight.shape, self.weight, self.bias, self.eps)
        return lean(self._root_mean_square, inputs)

    def _root_mean_square(self, inputs: Tensor) -> Tensor:
        weight = self.weight + self.offset if self.offset else self.weight
        return F.rms_norm(inputs, weight.shape, weight, self.eps)


@dataclass(slots=True)
class LayerWeights:
    """One decoder layer."""

    input_norm: Norm
    qkv: tuple[Linear, ...]
    """Query, key and value, or one map to all three side by side."""
    query_norm: Norm | None
    key_norm: Norm | None
    output: Linear
    attention_norm: Norm | None
    """On the output of attention, in architectures with ``post_norms``."""
    mlp_norm: Norm
    mlp_in: tuple[Linear, ...]
    """Gate and up, or one map to both side by side; the one inner map where the MLP is plain."""
    mlp_out: Linear
    mlp_out_norm: Norm | None


@dataclass(slots=True)
class DecoderWeights:
    """All weights of a decoder. Immutable by convention: a new version is a new object."""

    spec: DecoderSpec
    embedding: Tensor
    """[V, d]."""
    positions: Tensor | None
    """[max_positions, d], where positions are learned."""
    layers: tuple[LayerWeights, ...]
    final_norm: Norm
    head: Linear | None
    """The LM head; None in models without one (value and reward models)."""

    @classmethod
    def from_model(cls, model: PreTrainedModel) -> "DecoderWeights":
        """Returns the weights over a transformers model's own parameters, so that gradients reach them.

        Raises:
            UnsupportedArchitectureError: The decoder does not compute this model.
        """
        return _assemble(decoder_spec(model.config), dict(model.named_parameters()), keep)

    @classmethod
    def from_state(
        cls, spec: DecoderSpec, state: Mapping[str, Tensor], *, fused: bool = True
    ) -> "DecoderWeights":
        """Returns detached weights with every matrix transposed (contiguous [in, out]).

        That is the engine's layout on GPUs and in 16-bit types; ``in_panels`` makes that of a CPU from it.
        The embedding, and with it a tied head, is referenced as it is.

        Args:
            spec: What the weights belong to.
            state: Tensors by transformers' parameter names; the head may be missing where it is tied.
            fused: Join query, key and value, and gate and up, to one product each.

        Raises:
            KeyError: A tensor is missing.
        """
        return _assemble(spec, state, fuse if fused else separate)


Join = Callable[[tuple[Linear, ...]], tuple[Linear, ...]]
"""Decides the layout of maps that share their input."""


def keep(parts: tuple[Linear, ...]) -> tuple[Linear, ...]:
    """Leaves live parameters as they are."""
    return parts


def fuse(parts: tuple[Linear, ...]) -> tuple[Linear, ...]:
    """Returns one map to all outputs side by side, contiguous as [in, out]."""
    columns = [part.weight.detach() if part.transposed else part.weight.detach().t() for part in parts]
    biases = [part.bias.detach() for part in parts if part.bias is not None]
    joined = torch.cat(columns, 1).contiguous()
    return (Linear(joined.t(), torch.cat(biases) if biases else None),)


def separate(parts: tuple[Linear, ...]) -> tuple[Linear, ...]:
    """Returns every map on its own, contiguous as [in, out]."""
    return tuple(fuse((part,))[0] for part in parts)


def _assemble(spec: DecoderSpec, state: Mapping[str, Tensor], join: Join) -> DecoderWeights:
    return (_assemble_gpt2 if spec.names == "gpt2" else _assemble_llama)(spec, state, join)


def _assemble_llama(spec: DecoderSpec, state: Mapping[str, Tensor], join: Join) -> DecoderWeights:
    live = join is keep

    def norm(name: str) -> Norm:
        weight = state[f"{name}.weight"]
        if live:
            return Norm(weight, None, spec.norm_eps, spec.norm_offset)
        return Norm(weight.detach() + spec.norm_offset, None, spec.norm_eps)

    def linears(*names: str) -> tuple[Linear, ...]:
        return join(tuple(Linear(state[f"{name}.weight"]) for name in names))

    def layer(index: int) -> LayerWeights:
        here = f"model.layers.{index}"
        attention, mlp = f"{here}.self_attn", f"{here}.mlp"
        after = f"{here}.post_attention_layernorm"
        return LayerWeights(
            input_norm=norm(f"{here}.input_layernorm"),
            qkv=linears(f"{attention}.q_proj", f"{attention}.k_proj", f"{attention}.v_proj"),
            query_norm=norm(f"{attention}.q_norm") if spec.qk_norm else None,
            key_norm=norm(f"{attention}.k_norm") if spec.qk_norm else None,
            output=linears(f"{attention}.o_proj")[0],
            attention_norm=norm(after) if spec.post_norms else None,
            mlp_norm=norm(f"{here}.pre_feedforward_layernorm" if spec.post_norms else after),
            mlp_in=linears(f"{mlp}.gate_proj", f"{mlp}.up_proj"),
            mlp_out=linears(f"{mlp}.down_proj")[0],
            mlp_out_norm=norm(f"{here}.post_feedforward_layernorm") if spec.post_norms else None,
        )

    return DecoderWeights(
        spec=spec,
        embedding=state["model.embed_tokens.weight"],
        positions=None,
        layers=tuple(layer(index) for index in range(len(spec.layers))),
        final_norm=norm("model.norm"),
        head=_head(spec, state, "model.embed_tokens.weight", join),
    )


def _assemble_gpt2(spec: DecoderSpec, state: Mapping[str, Tensor], join: Join) -> DecoderWeights:
    def norm(name: str) -> Norm:
        return Norm(state[f"{name}.weight"], state[f"{name}.bias"], spec.norm_eps)

    def linear(name: str) -> tuple[Linear, ...]:
        return join((Linear(state[f"{name}.weight"], state[f"{name}.bias"], transposed=True),))

    def layer(index: int) -> LayerWeights:
        here = f"transformer.h.{index}"
        return LayerWeights(
            input_norm=norm(f"{here}.ln_1"),
            qkv=linear(f"{here}.attn.c_attn"),
            query_norm=None,
            key_norm=None,
            output=linear(f"{here}.attn.c_proj")[0],
            attention_norm=None,
            mlp_norm=norm(f"{here}.ln_2"),
            mlp_in=linear(f"{here}.mlp.c_fc"),
            mlp_out=linear(f"{here}.mlp.c_proj")[0],
            mlp_out_norm=None,
        )

    return DecoderWeights(
        spec=spec,
        embedding=state["transformer.wte.weight"],
        positions=state["transformer.wpe.weight"],
        layers=tuple(layer(index) for index in range(len(spec.layers))),
        final_norm=norm("transformer.ln_f"),
        head=_head(spec, state, "transformer.wte.weight", join),
    )


def _head(spec: DecoderSpec, state: Mapping[str, Tensor], embedding: str, join: Join) -> Linear | None:
    """Returns the LM head; None where the state has none, or has a scalar head in its place."""
    if "score.weight" in state:
        return None
    if spec.tied:
        return Linear(state[embedding])
    if "lm_head.weight" not in state:
        return None
    return join((Linear(state["lm_head.weight"]),))[0]
