"""Official clients with keys: python keys_client.py URL KEY LIMITED, where LIMITED may be used once for support-bot alone"""

import sys

import anthropic
import ollama
import openai

from common import ASKED, SENTENCE, expect

URL, KEY, LIMITED = sys.argv[1:]


def with_openai(key):
    client = openai.OpenAI(base_url=URL + "/v1", api_key=key, max_retries=0, timeout=60)
    return lambda model: client.chat.completions.create(model=model, messages=ASKED).choices[0].message.content


def with_anthropic(key):
    client = anthropic.Anthropic(base_url=URL, api_key=key, max_retries=0, timeout=60)
    return lambda model: client.messages.create(model=model, max_tokens=64, messages=ASKED).content[0].text


def with_ollama(key):
    client = ollama.Client(host=URL, headers={"Authorization": "Bearer " + key})
    return lambda model: client.chat(model, messages=ASKED).message.content


if __name__ == "__main__":
    for ask in [with_openai, with_anthropic, with_ollama]:
        assert ask(KEY)("support-bot") == SENTENCE
    for module, ask in [(openai, with_openai), (anthropic, with_anthropic)]:
        expect(module.AuthenticationError, lambda: ask("sk-nobody")("support-bot"))
        forbidden = expect(module.PermissionDeniedError, lambda: ask(KEY)("other:1"))
        assert "other:1" in str(forbidden), forbidden
    assert expect(ollama.ResponseError, lambda: with_ollama("nobody")("support-bot")).status_code == 401

    assert with_openai(LIMITED)("support-bot") == SENTENCE
    limited = expect(openai.RateLimitError, lambda: with_openai(LIMITED)("support-bot"))
    assert limited.code == "rate_limit_exceeded" and int(limited.response.headers["retry-after"]) > 30, limited
    expect(anthropic.RateLimitError, lambda: with_anthropic(LIMITED)("support-bot"))
    assert expect(ollama.ResponseError, lambda: with_ollama(LIMITED)("support-bot")).status_code == 429

    listed = openai.OpenAI(base_url=URL + "/v1", api_key=KEY).models.list()
    assert [model.id for model in listed] == ["support-bot"], listed
    shown = anthropic.Anthropic(base_url=URL, api_key=KEY).models.list()
    assert [model.id for model in shown] == ["support-bot"], shown
