"""The error that an update raises if its result must not be applied."""


class DivergedError(ArithmeticError):
    """A loss or a gradient is not finite; the update was not applied."""
