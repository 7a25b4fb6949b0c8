"""Curves as inline SVG, drawn with CSS classes so that the page's light and dark themes colour them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from pilothouse.trainer.statistics import smooth

WIDTH, HEIGHT = 520, 240
"""Size of a chart in its own units; the page scales it."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 14, 34
_SMOOTH_FROM = 12  # shorter curves are drawn as they are


@dataclass(frozen=True, slots=True)
class Curve:
    """One quantity over training."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves that share their axes."""

    title: str
    x_label: str
    curves: tuple[Curve, ...]
    points: bool = False
    """Draw points instead of lines, for quantities that are not a sequence."""
    level: float | None = None
    """A horizontal line, for example a budget."""

    def svg(self) -> str:
        """Returns the chart as an SVG element."""
        curves = [_finite(curve) for curve in self.curves]
        xs = [x for curve in curves for x in curve.xs]
        ys = [y for curve in curves for y in curve.ys] + ([] if self.level is None else [self.level])
        if not xs:
            return ""
        across, up = (
            _Scale(min(xs), max(xs), _LEFT, WIDTH - _RIGHT),
            _Scale.padded(ys, HEIGHT - _BOTTOM, _TOP),
        )
        parts = [_axes(across, up, self.x_label)]
        if self.level is not None:
            y = up(self.level)
            parts.append(
                f'<line class="level" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
        for index, curve in enumerate(curves):
            parts.append(_dots(curve, index, across, up) if self.points else _line(curve, index, across, up))
        label = escape(f"{self.title}: {', '.join(curve.name for curve in curves)}")
        return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


@dataclass(frozen=True, slots=True)
class _Scale:
    """Maps values onto drawing units."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def padded(cls, values: Sequence[float], start: float, end: float) -> "_Scale":
        room = 0.06 * (max(values) - min(values)) or 0.5
        return cls(min(values) - room, max(values) + room, start, end)

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Returns round numbers inside the range."""
        span = (self.high - self.low) or 1.0
        rough = span / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * unit for unit in (1, 2, 5, 10) if power * unit >= rough)
        first = math.ceil(self.low / step - 1e-9)
        return [(first + index) * step for index in range(int(self.high / step + 1e-9) - first + 1)]


def _finite(curve: Curve) -> Curve:
    pairs = [(x, y) for x, y in zip(curve.xs, curve.ys, strict=True) if math.isfinite(x) and math.isfinite(y)]
    return Curve(curve.name, [x for x, _ in pairs], [y for _, y in pairs])


def _axes(across: _Scale, up: _Scale, x_label: str) -> str:
    parts = []
    for value in up.ticks():
        y = up(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>'
        )
    for value in across.ticks():
        x = across(value)
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 17}" text-anchor="middle">{value:.4g}</text>'
        )
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(
        f'<text class="label" x="{middle}" y="{HEIGHT - 2}" text-anchor="middle">{escape(x_label)}</text>'
    )
    return "".join(parts)


def _line(curve: Curve, index: int, across: _Scale, up: _Scale) -> str:
    if len(curve.ys) < _SMOOTH_FROM:
        return _polyline(curve.xs, curve.ys, f"line c{index}", across, up)
    raw = _polyline(curve.xs, curve.ys, f"line raw c{index}", across, up)
    return raw + _polyline(curve.xs, smooth(curve.ys), f"line c{index}", across, up)


def _polyline(xs: Sequence[float], ys: Sequence[float], style: str, across: _Scale, up: _Scale) -> str:
    points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in zip(xs, ys, strict=True))
    return f'<polyline class="{style}" points="{points}"/>'


def _dots(curve: Curve, index: int, across: _Scale, up: _Scale) -> str:
    return "".join(
        f'<circle class="dot c{index}" cx="{across(x):.1f}" cy="{up(y):.1f}" r="3.5"/>'
        for x, y in zip(curve.xs, curve.ys, strict=True)
    )
