import io

from rich.console import Console

from pilothouse.trainer.display import Display


def _told(terminal: bool) -> str:
    stream = io.StringIO()
    display = Display(Console(file=stream, width=120, force_terminal=terminal))
    with display.live(), display.stage("SFT", ("loss",)) as line:
        for step in range(1, 101):
            line(step, 100, {"loss": 1 / step, "other": 5.0})
    return stream.getvalue()


def test_without_a_terminal_a_stage_tells_about_ten_plain_lines() -> None:
    lines = _told(terminal=False).splitlines()
    assert lines[0] == "SFT"
    assert 8 <= len(lines) <= 12
    assert lines[-1].split() == ["100/100", "loss", "0.01"]


def test_on_a_terminal_a_bar_shows_the_chosen_metrics() -> None:
    told = _told(terminal=True)
    assert "100/100" in told
    assert "loss 0.01" in told
    assert "other" not in told


def test_a_stage_without_steps_ends_full() -> None:
    stream = io.StringIO()
    display = Display(Console(file=stream, width=120, force_terminal=True))
    with display.live(), display.stage("Export"):
        pass
    assert "1/1" in stream.getvalue()
