"""A name that is none of the known ones; any other KeyError is a fault of the program."""


class UnknownNameError(KeyError):
    """Nothing has this name; the message lists the names that there are.

    Example:
        >>> str(UnknownNameError("unknown task 'ant-fly'; the tasks are: ant-vel"))
        "unknown task 'ant-fly'; the tasks are: ant-vel"
    """

    def __str__(self) -> str:
        """The message as it is; a KeyError would put it in quotes."""
        return str(self.args[0])
