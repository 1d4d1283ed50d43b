"""How numbers are printed."""

import math
from collections.abc import Mapping
from typing import Any

SYSTEM_NAMES = {
    "recording": "Recording",
    "teacher": "Teacher",
    "student": "Student",
    "griffin_lim": "Griffin–Lim",
}


def figure(value: float, standard_error: float | None = None, *, digits: int = 3) -> str:
    """A number as far as its standard error bears it, else to three significant digits.

    The error has one digit, or two where the first is a 1.

    Example:
        >>> figure(6.4921, 0.0312), figure(0.11834, 0.00122), figure(17400.2), figure(1.0)
        ('6.49 ± 0.03', '0.1183 ± 0.0012', '17,400', '1')
    """
    if standard_error:
        exponent = math.floor(math.log10(standard_error))
        one_more = standard_error < 1.95 * 10.0**exponent
        decimals = min(4, max(0, one_more - exponent))
        return f"{value:,.{decimals}f} ± {standard_error:.{decimals}f}"
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    if decimals <= 0:
        return f"{round(value, decimals):,.0f}"
    return f"{value:,.{min(decimals, 5)}f}".rstrip("0").rstrip(".")


def figure_of(figures: Mapping[str, Any], key: str, scale: float = 1.0) -> str:
    """The figure `key` with its `..._standard_error`, if it has one; "" where there is none."""
    if key not in figures:
        return ""
    error = figures.get(f"{key}_standard_error")
    return figure(scale * figures[key], None if error is None else scale * error)
