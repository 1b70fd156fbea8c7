"""What the official clients ask for."""

SENTENCE = "Hello from a real node."
ASKED = [{"role": "user", "content": "Who are you?"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def expect(error, call):
    """The error of this kind that the call raises."""
    try:
        call()
    except error as caught:
        return caught
    raise AssertionError(f"no {error.__name__}")


def hang_up(begin, ask):
    """A stream that is left after its first piece: the node takes one request at a time, so the next one would wait for ever."""
    stream = begin()
    next(iter(stream))
    stream.close()
    assert ask()
