"""The error for unknown names given by the user; any other KeyError is a bug."""


class UnknownNameError(KeyError):
    """The name is unknown; the message lists the known ones.

    Example:
        >>> str(UnknownNameError("unknown task 'ant-fly'; the tasks are: ant-vel"))
        "unknown task 'ant-fly'; the tasks are: ant-vel"
    """

    def __str__(self) -> str:
        """The message itself, without the quotes that a KeyError adds."""
        return str(self.args[0])
