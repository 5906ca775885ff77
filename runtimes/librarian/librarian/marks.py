"""The two characters that SQLite puts around what matched; the index holds no control characters of its own."""

OPEN, CLOSE = "\x02", "\x03"
