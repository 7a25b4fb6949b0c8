"""Messages of the reward service to and from batches and scores."""

import numpy as np

from pilothouse import tensors
from pilothouse.errors import InvalidRequestError
from pilothouse.reward.batch import Batch, Texts, TokenPairs
from pilothouse.reward.rows import RowMaker
from pilothouse.reward.scorer import Answer
from pilothouse.v1 import reward_pb2


def decode_batch(request: reward_pb2.ScoreRequest, rows: RowMaker) -> Batch:
    """Returns what a request asks to have scored.

    Raises:
        InvalidRequestError: It has no batch, or token ids that the rows' model does not take.
    """
    match request.WhichOneof("batch"):
        case "texts":
            return Texts(request.texts.prompts, request.texts.responses)
        case "tokens":
            sequences = tensors.decode_sequences(
                request.tokens.sequences,
                name="tokens.sequences",
                vocabulary_size=rows.vocabulary_size(),
                max_rows=rows.max_rows,
            )
            lengths = tensors.decode(
                request.tokens.prompt_lengths, name="tokens.prompt_lengths", dtype=np.int32, ndim=1
            )
            return TokenPairs(sequences, lengths.tolist())
        case _:
            raise InvalidRequestError("the request has no batch; set texts or tokens")


def encode_answer(answer: Answer) -> reward_pb2.ScoreResponse:
    """Returns a scored batch as a message."""
    scored = answer.scored
    return reward_pb2.ScoreResponse(
        scores=tensors.encode(scored.values),
        reward_version=answer.version,
        components=[
            reward_pb2.ScoreComponent(
                name=component.name, weight=component.weight, scores=tensors.encode(component.values)
            )
            for component in scored.components
        ],
        disagreement=tensors.encode(scored.disagreement) if len(scored.disagreement) else None,
    )
