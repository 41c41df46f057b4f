"""What is said of bad input: one line that tells what is wrong and what to do."""


class InputError(Exception):
    """Bad input. The message is one line that says what is wrong and what to do."""

    def __init__(self, words: str):
        super().__init__(_printable(words))  # names of files may hold anything


def one_line(words: object) -> str:
    """Words as one printable line of bounded length; for an error without words, its kind."""
    text = _printable(str(words.msg if isinstance(words, SyntaxError) else words))
    if isinstance(words, KeyError | SystemExit):
        text = f"{type(words).__name__}: {text}"
    elif isinstance(words, BaseException):
        text = text or type(words).__name__
    return text if len(text) <= 300 else f"{text[:300]}…"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
