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
