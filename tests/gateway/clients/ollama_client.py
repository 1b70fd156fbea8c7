"""Ollama's own client and LangChain's, unchanged but for the base URL: python ollama_client.py URL"""

import sys

import ollama
from langchain_core.messages import HumanMessage
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from pydantic import BaseModel

from common import ASKED, PIXEL, SENTENCE, expect, hang_up


class Counted(BaseModel):
    n: int


def weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: its name
    """
    return "sunny in " + city


def chats(client):
    answer = client.chat("support-bot", messages=ASKED, options={"temperature": 0, "num_ctx": 512}, keep_alive=0)
    assert (answer.message.content, answer.model, answer.done_reason) == (SENTENCE, "bot:1", "stop"), answer
    pieces = list(client.chat("support-bot", messages=ASKED, stream=True))
    assert "".join(piece.message.content for piece in pieces) == SENTENCE and pieces[-1].eval_count > 2, pieces
    assert client.generate("support-bot", "Who are you?").response == SENTENCE
    assert "".join(piece.response for piece in client.generate("support-bot", "Who?", stream=True)) == SENTENCE
    seen = client.chat("support-bot", messages=[{"role": "user", "content": "What?", "images": [PIXEL]}])
    assert seen.message.content == SENTENCE, "Ollama lets models that have no eyes answer all the same"
    counted = client.chat("support-bot", messages=ASKED, format=Counted.model_json_schema())
    assert isinstance(Counted.model_validate_json(counted.message.content).n, int), counted
    called = client.chat("tools", messages=ASKED, tools=[weather])
    assert called.message.tool_calls[0].function.arguments == {"city": "Rome"}, called
    thought = client.chat("thinker", messages=ASKED, think=True)
    assert (thought.message.thinking.strip(), thought.message.content.strip()) == ("Hm.", "Yes."), thought


def others(client):
    assert len(client.embed("support-bot", ["a", "b"]).embeddings) == 2
    assert len(client.embeddings("support-bot", "a").embedding) == 64
    models = {model.model: model for model in client.list().models}
    assert models["support-bot"].size > 400_000 and models["support-bot"].details.family == "llama", models
    assert not any(name.startswith("drover-") for name in models), models
    shown = client.show("support-bot")
    assert "drover-" not in shown.modelfile and shown.modelinfo["general.architecture"] == "llama", shown
    running = {model.model for model in client.ps().models}
    assert "support-bot:v1.0.0" in running and not any(name.startswith("drover-") for name in running), running


def errors(client):
    missing = expect(ollama.ResponseError, lambda: client.chat("nope", messages=ASKED))
    assert missing.status_code == 404, missing
    wrong = expect(ollama.ResponseError, lambda: client.chat("support-bot", messages=ASKED, options={"top_p": 2}))
    assert wrong.status_code == 400 and "options.top_p" in wrong.error, wrong
    no_tools = expect(ollama.ResponseError, lambda: client.chat("support-bot", messages=ASKED, tools=[weather]))
    assert no_tools.error == "bot:1 does not support tools", no_tools


def cancels(client):
    ask = lambda most, **more: client.chat("endless", messages=ASKED, options={"num_predict": most}, **more)
    hang_up(lambda: ask(-1, stream=True), lambda: ask(3).message)


def langchain(url):
    chat = ChatOllama(model="support-bot", base_url=url, temperature=0)
    answer = chat.invoke("Who are you?")
    assert answer.content == SENTENCE and answer.usage_metadata["output_tokens"] > 2, answer
    assert "".join(piece.content for piece in chat.stream("Who are you?")) == SENTENCE
    assert isinstance(chat.with_structured_output(Counted).invoke("Count.").n, int)
    called = ChatOllama(model="tools", base_url=url).bind_tools([weather]).invoke("Rome?")
    assert called.tool_calls[0]["args"] == {"city": "Rome"}, called
    assert OllamaLLM(model="support-bot", base_url=url).invoke("Who are you?") == SENTENCE
    image = {"type": "image_url", "image_url": "data:image/png;base64," + PIXEL}
    assert chat.invoke([HumanMessage([{"type": "text", "text": "What?"}, image])]).content == SENTENCE
    missing = expect(ollama.ResponseError, lambda: ChatOllama(model="nope", base_url=url).invoke("Who?"))
    assert missing.status_code == 404, missing
    endless = lambda most: ChatOllama(model="endless", base_url=url, num_predict=most)
    hang_up(lambda: endless(-1).stream("Who?"), lambda: endless(3).invoke("Who?").content)
    assert len(OllamaEmbeddings(model="support-bot", base_url=url).embed_documents(["a", "b"])) == 2


if __name__ == "__main__":
    client = ollama.Client(host=sys.argv[1])
    for check in [chats, others, errors, cancels]:
        check(client)
    langchain(sys.argv[1])
