"""``queryinst-vis average-weights``, from a clone without installation."""

from _run import run

if __name__ == "__main__":
    run(__file__)
