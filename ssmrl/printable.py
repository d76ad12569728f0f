"""Sanitising of foreign text before it is shown in a terminal."""


def printable(text: str) -> str:
    r"""Replace control characters of a text by ``?``, except line ends.

    Example:
        >>> printable("a\x1b[31mb")
        'a?[31mb'
    """
    return "".join(
        character if character.isprintable() or character == "\n" else "?" for character in text
    )


def one_line(error: BaseException) -> str:
    """The message of an error as one printable line, without the quotes that a KeyError adds.

    Example:
        >>> one_line(KeyError("unknown knob"))
        'unknown knob'
    """
    said = error.args[0] if isinstance(error, KeyError) and error.args else error
    return printable(" ".join(str(said).split())) or type(error).__name__
