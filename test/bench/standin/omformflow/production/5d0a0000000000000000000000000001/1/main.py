"""The deployed flow."""
from bench.engine import step


def main(param):
    step(param)
