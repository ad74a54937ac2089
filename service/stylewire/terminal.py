"""Text of strangers on a terminal: what a server or a file says may hold sequences that a terminal obeys."""


def printable(text: str) -> str:
    r"""Write control characters, line breaks and marks of direction as escapes, such as ``\x1b``.

    >>> printable("red \x1b[31m\nfake line")
    'red \\x1b[31m\\nfake line'
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
