"""Figures drawn as SVG, by hand: rows along a common axis, and grids."""
