"""The smallest function."""


def noop(param: object) -> None:
    """Nothing."""
