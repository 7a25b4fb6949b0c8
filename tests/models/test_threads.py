import pytest
import torch

from pilothouse.models.threads import one_thread


def test_a_block_runs_on_one_thread_and_gives_the_others_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread() as threads:
            assert (threads, torch.get_num_threads()) == (2, 1)
        assert torch.get_num_threads() == 2
        with pytest.raises(ValueError, match="told"), one_thread():
            raise ValueError("told")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
