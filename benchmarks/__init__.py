"""Speed of the package as ratios to named baselines: `python -m benchmarks --help`.

A part is a module of this package with a `TITLE` and a function `measure(options) -> list[Row]`;
it is found by its `TITLE`, whatever its name.
"""
