import os
import signal
import threading
from concurrent.futures import Future

import pytest
from prometheus_client import REGISTRY

from pilothouse.errors import PreconditionError
from pilothouse.trainer.control import RunControl, Saved, StepAbandoned, StopSignals


@pytest.fixture
def control() -> RunControl:
    return RunControl("test", "ppo", total_steps=5)


def save() -> Saved:
    return "checkpoints/step_00000001", 1


def test_a_run_goes_on_until_it_is_asked_to_stop(control: RunControl) -> None:
    assert control.between_steps(save)
    assert control.status.state == "running"
    ended = control.request_stop()
    assert not control.between_steps(save)
    control.finish(save())
    assert ended.result(timeout=1) == save()
    assert control.status.state == "finished"


def test_prometheus_sees_a_pause(control: RunControl) -> None:
    control.pause("the policy exploits the reward model")
    waiting = threading.Thread(target=control.between_steps, args=[save])
    paused = threading.Event()
    control.listen(lambda: paused.set() if control.status.state == "paused" else None)
    waiting.start()
    assert paused.wait(timeout=10)
    assert REGISTRY.get_sample_value("pilothouse_trainer_paused") == 1
    control.resume()
    waiting.join(timeout=10)
    assert REGISTRY.get_sample_value("pilothouse_trainer_paused") == 0


def test_a_checkpoint_asked_for_is_taken_between_steps(control: RunControl) -> None:
    first, second = control.request_checkpoint(), control.request_checkpoint()
    assert control.between_steps(save)
    assert first.result(timeout=1) == second.result(timeout=1) == save()


def test_a_checkpoint_that_fails_fails_for_those_who_asked(control: RunControl) -> None:
    def full() -> Saved:
        raise OSError(28, "No space left on device")

    asked = control.request_checkpoint()
    with pytest.raises(OSError, match="space"):
        control.between_steps(full)
    assert isinstance(asked.exception(timeout=1), OSError)


def test_a_caller_who_hangs_up_takes_back_the_order_and_disturbs_nobody(control: RunControl) -> None:
    left, stays = control.request_checkpoint(), control.request_checkpoint()
    left.cancel()
    assert control.between_steps(save)
    assert stays.result(timeout=1) == save()
    left, stays = control.request_checkpoint(), control.request_checkpoint()
    left.cancel()
    control.finish(save())
    assert stays.result(timeout=1) == save()


def test_nothing_is_saved_for_callers_who_have_all_hung_up(control: RunControl) -> None:
    control.request_checkpoint().cancel()
    saved: list[Saved] = []
    assert control.between_steps(lambda: saved.append(save()) or save())
    assert saved == []


def test_a_paused_run_holds_saves_and_goes_on(control: RunControl) -> None:
    control.pause()
    answers: Future[bool] = Future()
    loop = threading.Thread(target=lambda: answers.set_result(control.between_steps(save)))
    paused = threading.Event()
    control.listen(lambda: paused.set() if control.status.state == "paused" else None)
    loop.start()
    assert paused.wait(timeout=10)
    assert control.request_checkpoint().result(timeout=10) == save()
    assert not answers.done()
    control.resume()
    assert answers.result(timeout=10)
    loop.join()


def test_a_paused_run_can_be_stopped(control: RunControl) -> None:
    control.pause()
    control.request_stop()
    assert not control.between_steps(save)


def test_after_the_end_nothing_waits_for_ever(control: RunControl) -> None:
    asked, ended = control.request_checkpoint(), control.request_stop()
    control.finish(None, "KL budget")
    for future in (asked, ended):
        with pytest.raises(PreconditionError, match="KL budget"):
            future.result(timeout=1)
    with pytest.raises(PreconditionError, match="ended"):
        control.request_checkpoint()
    assert (control.status.state, control.status.error) == ("failed", "KL budget")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_waits_for_the_step_and_the_second_does_not(
    control: RunControl, number: signal.Signals
) -> None:
    former = signal.getsignal(number)
    with StopSignals(control).installed():
        os.kill(os.getpid(), number)
        assert control.stopping
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) == former


def test_a_signal_abandons_a_step_from_which_nothing_was_learned(control: RunControl) -> None:
    signals = StopSignals(control)
    with signals.installed():
        with pytest.raises(StepAbandoned), signals.abandonable():
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(StepAbandoned), signals.abandonable():
            pytest.fail("a stopping run must not begin another step")


def test_signals_are_left_alone_outside_the_main_thread(control: RunControl) -> None:
    former = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def elsewhere() -> None:
        with StopSignals(control).installed():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [former]
