"""Text that comes from outside, as a terminal may show it."""


def printable(text: str) -> str:
    r"""The text without what could steer a terminal; line ends stay.

    Example:
        >>> printable("a\x1b[31mb")
        'a?[31mb'
    """
    return "".join(
        character if character.isprintable() or character == "\n" else "?" for character in text
    )


def one_line(error: BaseException) -> str:
    """What an error says, in one printable line; a KeyError would say it in quotes.

    Example:
        >>> one_line(KeyError("unknown knob"))
        'unknown knob'
    """
    said = error.args[0] if isinstance(error, KeyError) and error.args else error
    return printable(" ".join(str(said).split())) or type(error).__name__
