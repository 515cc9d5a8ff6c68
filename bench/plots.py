"""Plots of the report. Needs matplotlib, which ``bench/requirements.lock`` pins."""

from __future__ import annotations

import io

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.section import Plot


def draw(plot: Plot) -> str:
    """The plot as SVG that goes into a page."""
    mpl.rcParams["svg.fonttype"] = "none"
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name, points in plot.lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=name)
    axes.set(title=plot.title, xlabel=plot.x, ylabel=plot.y)
    axes.set_xscale("log" if plot.log_x else "linear")
    axes.set_yscale("log" if plot.log_y else "linear")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()[drawn.getvalue().index("<svg") :]
