"""What an update raises that must not be applied."""


class DivergedError(ArithmeticError):
    """A loss or a gradient is not finite; that gradient was not applied."""
