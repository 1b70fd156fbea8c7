"""Ollama's own client pulls and removes models of a fleet: python operations.py URL"""

import sys

import ollama


def refusal(call):
    try:
        call()
    except ollama.ResponseError as error:
        return error
    raise AssertionError("not refused")


def run(client):
    heard = list(client.pull("shop/big:1", stream=True))
    counted = [line for line in heard if line.digest]
    assert heard[-1].status == "success" and counted, heard
    parts = [line.completed for line in counted]
    assert len(parts) > 2 and parts == sorted(parts) and parts[-1] == counted[-1].total > 16 << 20, parts
    assert all(line.digest.startswith("sha256:") for line in counted), counted
    assert client.pull("shop/big:1").status == "success"
    assert "shop/big:1" in [model.model for model in client.list().models]

    missing = refusal(lambda: client.pull("shop/nope:1"))
    assert "shop/nope:1 was not found" in missing.error and missing.status_code == 500, missing
    missing = refusal(lambda: list(client.pull("shop/nope:1", stream=True)))
    assert "shop/nope:1 was not found" in missing.error, missing
    assert refusal(lambda: client.pull("not a name")).status_code == 400
    assert refusal(lambda: client.delete("shop/nope:1")).status_code == 404
    assert refusal(lambda: client.copy("shop/big:1", "mine")).status_code == 501
    assert refusal(lambda: client.create("mine", from_="shop/big:1")).status_code == 501

    assert client.delete("shop/big:1").status == "success"
    assert "shop/big:1" not in [model.model for model in client.list().models]


if __name__ == "__main__":
    run(ollama.Client(host=sys.argv[1]))
