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
