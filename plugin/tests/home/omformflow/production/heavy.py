"""Stands for a heavy library."""
BALLAST = bytearray(b"x") * (200 << 20)
