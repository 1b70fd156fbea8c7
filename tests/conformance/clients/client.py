"""Uses the Kubernetes client of Python in all the ways that programs do, and prints what it was answered.

Usage: client.py NAMESPACE. What differs from run to run is left out.
"""

import json
import sys
from datetime import datetime, timezone

from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException

NAMESPACE = sys.argv[1]
GROUP, VERSION = "drover.dev", "v1alpha1"
VARYING = {
    *("uid", "resourceVersion", "creationTimestamp", "managedFields"),
    *("resource_version", "creation_timestamp", "managed_fields"),
}


def plain(value):
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if key not in VARYING and inner is not None}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value if isinstance(value, (str, int, float, bool)) else str(value)


def items(listed):
    """What is in a list; whether its items repeat their kind is listed in docs/standalone.md."""
    return [{**item.to_dict(), "kind": None, "api_version": None, "apiVersion": None} for item in listed.items]


def say(what, value):
    text = json.dumps(plain(value), sort_keys=True).replace(NAMESPACE, "NS")
    print(f"{what}: {text}", flush=True)


def refused(what, call):
    try:
        say(what, call())
    except ApiException as error:
        body = json.loads(error.body)
        say(what, [error.status, body.get("reason"), body.get("message")])


def pull(name, model, **metadata):
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "ModelPull",
        "metadata": {"name": name, **metadata},
        "spec": {"model": model},
    }


def through_the_dynamic_client(api):
    pulls = dynamic.DynamicClient(api).resources.get(api_version=f"{GROUP}/{VERSION}", kind="ModelPull")
    say("found", [pulls.name, pulls.namespaced, pulls.verbs, pulls.short_names, sorted(pulls.subresources)])
    say("created", pulls.create(body=pull("a", "m", labels={"x": "y"}), namespace=NAMESPACE))
    refused("created twice", lambda: pulls.create(body=pull("a", "m"), namespace=NAMESPACE))
    refused("faulty", lambda: pulls.create(body=pull("b", 5), namespace=NAMESPACE))
    say("read", pulls.get(name="a", namespace=NAMESPACE))
    for kind, body in {
        "application/merge-patch+json": {"spec": {"priority": 2}},
        "application/json-patch+json": [{"op": "replace", "path": "/spec/model", "value": "n"}],
    }.items():
        say(kind, pulls.patch(name="a", namespace=NAMESPACE, body=body, content_type=kind))
    body = {"spec": {"priority": 3}}
    strategic = "application/strategic-merge-patch+json"
    refused(strategic, lambda: pulls.patch(name="a", namespace=NAMESPACE, body=body, content_type=strategic))
    apply = lambda manager, model, **more: pulls.server_side_apply(
        body=pull("a", model), namespace=NAMESPACE, field_manager=manager, **more
    )
    refused("conflict", lambda: apply("one", "o"))
    say("forced", apply("one", "o", force_conflicts=True))
    owners = pulls.get(name="a", namespace=NAMESPACE).metadata.managedFields
    say("owners", sorted([owner.manager, owner.operation] for owner in owners))
    status = {"status": {"phase": "Ready"}}
    say("status", pulls.status.patch(name="a", namespace=NAMESPACE, body=status, content_type="application/merge-patch+json"))
    changed = pulls.get(name="a", namespace=NAMESPACE).to_dict()
    changed["spec"]["priority"] = 7
    say("replaced", pulls.replace(body=changed, namespace=NAMESPACE))
    refused("replaced with an old state", lambda: pulls.replace(body=changed, namespace=NAMESPACE))
    pulls.create(body=pull("c", "m"), namespace=NAMESPACE)
    say("listed", [item.metadata.name for item in pulls.get(namespace=NAMESPACE).items])
    say("selected", [item.metadata.name for item in pulls.get(namespace=NAMESPACE, label_selector="x=y").items])
    first = pulls.get(namespace=NAMESPACE, limit=1)
    second = pulls.get(namespace=NAMESPACE, limit=1, _continue=first.metadata["continue"])
    say("in pages", [page.items[0].metadata.name for page in (first, second)])
    since = pulls.get(namespace=NAMESPACE).metadata.resourceVersion
    say("deleted", pulls.delete(name="a", namespace=NAMESPACE))
    pulls.create(body=pull("d", "m"), namespace=NAMESPACE)
    for event in pulls.watch(namespace=NAMESPACE, resource_version=since, timeout=2):
        say("watched", [event["type"], event["raw_object"]])
        if event["raw_object"]["metadata"]["name"] == "d":
            break
    say("all deleted", pulls.delete(namespace=NAMESPACE, label_selector="x!=y"))
    refused("gone", lambda: pulls.get(name="d", namespace=NAMESPACE))


def through_the_typed_clients(api):
    core, custom = client.CoreV1Api(api), client.CustomObjectsApi(api)
    say("namespace", core.read_namespace(NAMESPACE))
    data = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="c"), data={"a": "1"})
    say("config map", core.create_namespaced_config_map(NAMESPACE, data))
    say("patched", core.patch_namespaced_config_map("c", NAMESPACE, {"data": {"a": None, "b": "2"}}))
    say("listed", items(core.list_namespaced_config_map(NAMESPACE, field_selector="metadata.name=c")))
    secret = client.V1Secret(metadata=client.V1ObjectMeta(generate_name="s-"), string_data={"k": "v"})
    secret = core.create_namespaced_secret(NAMESPACE, secret)
    say("secret", [secret.metadata.name.startswith("s-"), secret.data, secret.type])
    event = client.EventsV1Event(
        metadata=client.V1ObjectMeta(name="e"),
        regarding=client.V1ObjectReference(kind="ModelPull", name="a", namespace=NAMESPACE),
        **{"reason": "Pulled", "note": "n", "type": "Normal", "action": "Pull"},
        **{"event_time": datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=timezone.utc)},
        **{"reporting_controller": "drover.dev/test", "reporting_instance": "i"},
    )
    say("event", client.EventsV1Api(api).create_namespaced_event(NAMESPACE, event))
    say("events", items(core.list_namespaced_event(NAMESPACE, field_selector="reason=Pulled")))
    place = (GROUP, VERSION, NAMESPACE, "modelpulls")
    say("custom", custom.create_namespaced_custom_object(*place, pull("e", "m")))
    say("patched", custom.patch_namespaced_custom_object(*place, "e", {"spec": {"model": "n"}}))
    say("listed", custom.list_namespaced_custom_object(*place)["items"])
    for event in watch.Watch().stream(custom.list_namespaced_custom_object, *place, timeout_seconds=1):
        say("watched", [event["type"], event["object"]])
        break
    say("deleted", custom.delete_namespaced_custom_object(*place, "e"))
    refused("gone", lambda: custom.get_namespaced_custom_object(*place, "e"))
    lease = client.V1Lease(metadata=client.V1ObjectMeta(name="l"), spec=client.V1LeaseSpec(holder_identity="me"))
    say("lease", client.CoordinationV1Api(api).create_namespaced_lease(NAMESPACE, lease))
    kinds = client.ApiextensionsV1Api(api).list_custom_resource_definition().items
    say("definitions", [kind.metadata.name for kind in kinds])
    groups = [group.name for group in client.ApisApi(api).get_api_versions().groups]
    say("groups", [group for group in groups if group in ("drover.dev", "events.k8s.io", "coordination.k8s.io")])
    say("version", client.VersionApi(api).get_code().major)
    say("removed", core.delete_namespaced_config_map("c", NAMESPACE))


config.load_kube_config()
with client.ApiClient() as api:
    through_the_dynamic_client(api)
    through_the_typed_clients(api)
