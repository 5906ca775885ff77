"""How long to wait before a model is asked again. Pure but for the dice."""

import math
import random
from email.utils import parsedate_to_datetime

FIRST, LONGEST = 1.0, 30.0  # seconds, where the endpoint names none
LONGEST_ASKED = 120.0  # seconds: an endpoint that wants us to wait longer is not waited for


def retry_after(text: str, now: float) -> float | None:
    """Seconds to wait by a `Retry-After` (RFC 9110, 10.2.3): a number, or a date."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return None if math.isnan(seconds) else max(0.0, seconds)


def back_off(number: int) -> float:
    """After so many tries: twice as long each time, and not in step with others."""
    return min(LONGEST, FIRST * 2.0 ** (number - 1)) * random.uniform(0.5, 1.0)
