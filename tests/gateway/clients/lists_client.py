"""Official clients choose a model from what is listed: python lists_client.py URL NAME=KIND..."""

import sys

import anthropic
import ollama
import openai

from common import ASKED, SENTENCE


def by_openai(url, kinds):
    client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0, timeout=60)
    listed = {model.id: model.owned_by for model in client.models.list()}
    for name, kind in kinds.items():
        assert listed[name] == client.models.retrieve(name).owned_by == "drover/" + kind, listed
        answer = client.chat.completions.create(model=name, messages=ASKED)
        assert answer.choices[0].message.content == SENTENCE, answer


def by_ollama(url, kinds):
    client = ollama.Client(host=url)
    listed = {model.model: model for model in client.list().models}
    for name in kinds:
        assert (listed[name].details.family, listed[name].details.parent_model) == ("llama", "bot:1"), listed
        assert listed[name].size > 400_000 and len(listed[name].digest) == 64, listed
        assert client.show(name).modelinfo["general.architecture"] == "llama"
        assert client.chat(name, messages=ASKED).message.content == SENTENCE


def by_anthropic(url, kinds):
    client = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0, timeout=60)
    listed = {model.id for model in client.models.list()}
    for name in kinds:
        assert name in listed, listed
        answer = client.messages.create(model=name, max_tokens=64, messages=ASKED)
        assert answer.content[0].text == SENTENCE, answer


if __name__ == "__main__":
    kinds = dict(argument.split("=") for argument in sys.argv[2:])
    for check in [by_openai, by_ollama, by_anthropic]:
        check(sys.argv[1], kinds)
