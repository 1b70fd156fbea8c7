"""OpenAI's own client, unchanged but for the base URL: python openai_client.py URL"""

import json
import sys

import openai
from pydantic import BaseModel

from common import ASKED, PIXEL, SENTENCE, expect, hang_up

WEATHER = {"type": "function", "function": {"name": "weather", "description": "The weather in a city.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}


class Counted(BaseModel):
    n: int


def chats(client):
    raw = client.chat.completions.with_raw_response.create(model="support-bot", messages=ASKED, temperature=0)
    assert raw.headers["x-drover-version"] == "v1.0.0", raw.headers
    answer = raw.parse()
    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason) == (SENTENCE, "stop"), answer
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 5, answer

    pieces = list(client.chat.completions.create(model="support-bot", messages=ASKED, stream=True,
                                                 stream_options={"include_usage": True}))
    assert "".join(p.choices[0].delta.content or "" for p in pieces if p.choices) == SENTENCE, pieces
    assert len(pieces) > 5 and pieces[-1].usage.completion_tokens > 2, pieces

    cut = client.chat.completions.create(model="support-bot", messages=ASKED, max_completion_tokens=2)
    assert cut.choices[0].finish_reason == "length", cut
    stopped = client.chat.completions.create(model="support-bot", messages=ASKED, stop=["real"])
    assert stopped.choices[0].message.content.strip() == "Hello from a", stopped

    likely = client.chat.completions.create(model="support-bot", messages=ASKED, logprobs=True, top_logprobs=2, seed=7)
    tokens = likely.choices[0].logprobs.content
    assert "".join(t.token for t in tokens).strip() == SENTENCE and len(tokens[0].top_logprobs) == 2, tokens

    counted = client.chat.completions.parse(model="support-bot", messages=ASKED, response_format=Counted)
    assert isinstance(counted.choices[0].message.parsed.n, int), counted


def tools(client):
    answer = client.chat.completions.create(model="tools", messages=ASKED, tools=[WEATHER])
    call = answer.choices[0].message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Rome"}), answer
    assert answer.choices[0].finish_reason == "tool_calls", answer
    pieces = client.chat.completions.create(model="tools", messages=ASKED, tools=[WEATHER], stream=True)
    calls = [c for p in pieces for c in p.choices[0].delta.tool_calls or []]
    assert [c.function.name for c in calls] == ["weather"], calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    asked = ASKED + [answer.choices[0].message, result]
    assert client.chat.completions.create(model="support-bot", messages=asked).choices[0].message.content == SENTENCE
    expect(openai.BadRequestError, lambda: client.chat.completions.create(
        model="support-bot", messages=ASKED, tools=[WEATHER]))


def thinking(client):
    answer = client.chat.completions.create(model="thinker", messages=ASKED)
    assert answer.choices[0].message.reasoning.strip() == "Hm.", answer
    assert answer.choices[0].message.content.strip() == "Yes.", answer


def responses(client):
    answer = client.responses.create(model="support-bot", input="Who are you?", instructions="Be brief.")
    assert (answer.output_text, answer.status) == (SENTENCE, "completed"), answer
    with client.responses.stream(model="support-bot", input="Who are you?") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == SENTENCE and kinds[0] == "response.created", (final, kinds)
    called = client.responses.create(model="tools", input="Rome?", tools=[{
        "type": "function", "name": "weather", "description": "", "strict": False,
        "parameters": WEATHER["function"]["parameters"]}])
    assert [item.type for item in called.output] == ["function_call"], called
    assert json.loads(called.output[0].arguments) == {"city": "Rome"}, called
    thought = client.responses.create(model="thinker", input="Hm?", reasoning={"effort": "low"})
    assert [item.type for item in thought.output] == ["reasoning", "message"], thought
    refused = expect(openai.BadRequestError, lambda: client.responses.create(
        model="support-bot", input="hi", previous_response_id="resp_1"))
    assert "previous_response_id" in refused.message, refused


def others(client):
    text = client.completions.create(model="support-bot", prompt="Who are you?", temperature=0)
    assert text.choices[0].text.strip() == SENTENCE, text
    vectors = client.embeddings.create(model="support-bot", input=["a", "b"])
    listed = client.embeddings.create(model="support-bot", input=["a", "b"], encoding_format="float")
    assert len(vectors.data) == 2 and len(vectors.data[0].embedding) == 64, vectors
    assert all(abs(a - b) < 1e-6 for a, b in zip(vectors.data[1].embedding, listed.data[1].embedding))
    assert {"support-bot", "tools:latest"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("support-bot").id == "support-bot"


def errors(client):
    missing = expect(openai.NotFoundError, lambda: client.chat.completions.create(model="nope", messages=ASKED))
    assert missing.code == "model_not_found" and "support-bot" in missing.message, missing
    for wrong in [{"n": 2}, {"temperature": 3}, {"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}]}]}]:
        refused = expect(openai.BadRequestError, lambda: client.chat.completions.create(
            **{"model": "support-bot", "messages": ASKED, **wrong}))
        assert refused.type == "invalid_request_error", refused
    image = [{"role": "user", "content": [{"type": "text", "text": "What?"},
                                          {"type": "image_url", "image_url": {"url": "data:image/png;base64," + PIXEL}}]}]
    seen = client.chat.completions.create(model="support-bot", messages=image)
    assert seen.choices[0].message.content == SENTENCE, "Ollama lets models that have no eyes answer all the same"


def cancels(client):
    ask = lambda **more: client.chat.completions.create(model="endless", messages=ASKED, **more)
    hang_up(lambda: ask(stream=True, max_tokens=1_000_000), lambda: ask(max_tokens=3).choices)


if __name__ == "__main__":
    client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0, timeout=60)
    for check in [chats, tools, thinking, responses, others, errors, cancels]:
        check(client)
