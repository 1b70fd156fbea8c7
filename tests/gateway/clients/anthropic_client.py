"""Anthropic's own client, unchanged but for the base URL: python anthropic_client.py URL"""

import sys

import anthropic

from common import ASKED, PIXEL, SENTENCE, expect, hang_up

WEATHER = {"name": "weather", "description": "The weather in a city.", "input_schema": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}


def messages(client):
    answer = client.messages.create(model="support-bot", max_tokens=64, messages=ASKED, system="Be brief.",
                                    extra_body={"temperature": 0})
    assert (answer.content[0].text, answer.stop_reason) == (SENTENCE, "end_turn"), answer
    assert answer.usage.input_tokens > 2 and answer.usage.output_tokens > 2, answer
    with client.messages.stream(model="support-bot", max_tokens=64, messages=ASKED) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(pieces) == SENTENCE and len(pieces) > 3, pieces
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", answer.usage.output_tokens), final
    cut = client.messages.create(model="support-bot", max_tokens=2, messages=ASKED)
    assert cut.stop_reason == "max_tokens", cut
    stopped = client.messages.create(model="support-bot", max_tokens=64, messages=ASKED, stop_sequences=["real"])
    assert stopped.content[0].text.strip() == "Hello from a", stopped


def tools(client):
    answer = client.messages.create(model="tools", max_tokens=64, messages=ASKED, tools=[WEATHER])
    call = answer.content[-1]
    assert (call.type, call.name, call.input) == ("tool_use", "weather", {"city": "Rome"}), answer
    assert answer.stop_reason == "tool_use", answer
    with client.messages.stream(model="tools", max_tokens=64, messages=ASKED, tools=[WEATHER]) as stream:
        assert stream.get_final_message().content[-1].input == {"city": "Rome"}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}]}
    asked = ASKED + [{"role": "assistant", "content": answer.content}, result]
    assert client.messages.create(model="support-bot", max_tokens=64, messages=asked).content[0].text == SENTENCE


def thinking(client):
    wish = {"type": "enabled", "budget_tokens": 1024}
    answer = client.messages.create(model="thinker", max_tokens=2048, messages=ASKED, thinking=wish)
    assert [block.type for block in answer.content] == ["thinking", "text"], answer
    assert answer.content[0].thinking.strip() == "Hm.", answer
    plain = client.messages.create(model="support-bot", max_tokens=2048, messages=ASKED, thinking=wish)
    assert [block.type for block in plain.content] == ["text"], plain


def errors(client):
    ask = lambda **wrong: client.messages.create(**{"model": "support-bot", "max_tokens": 8, "messages": ASKED, **wrong})
    missing = expect(anthropic.NotFoundError, lambda: ask(model="nope"))
    assert "support-bot" in str(missing), missing
    expect(anthropic.BadRequestError, lambda: ask(extra_body={"temperature": 3}))
    source = {"type": "url", "url": "https://example.com/cat.png"}
    remote = [{"role": "user", "content": [{"type": "image", "source": source}]}]
    expect(anthropic.BadRequestError, lambda: ask(messages=remote))
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    seen = ask(max_tokens=64, messages=[{"role": "user", "content": [{"type": "image", "source": source}]}])
    assert seen.content[0].text == SENTENCE, "Ollama lets models that have no eyes answer all the same"
    assert "support-bot" in [model.id for model in client.models.list()]


def cancels(client):
    ask = lambda most, **more: client.messages.create(model="endless", max_tokens=most, messages=ASKED, **more)
    hang_up(lambda: ask(1_000_000, stream=True), lambda: ask(3).content)


if __name__ == "__main__":
    client = anthropic.Anthropic(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=60)
    for check in [messages, tools, thinking, errors, cancels]:
        check(client)
