//! The objects that the commands are given; `NS` stands for their namespace.

pub const PULL: &str = "apiVersion: drover.dev/v1alpha1
kind: ModelPull
metadata:
  name: llama
  labels: {tier: gpu}
spec:
  model: llama3.2:3b
";
pub const CHANGED: &str = "apiVersion: drover.dev/v1alpha1
kind: ModelPull
metadata:
  name: llama
spec:
  model: llama3.2:1b
  timeout: 10m
";
/// Has more than `CHANGED`, which is then taken away again.
pub const MORE: &str = "apiVersion: drover.dev/v1alpha1
kind: ModelPull
metadata:
  name: llama
  annotations: {team: a}
spec:
  model: llama3.2:1b
  timeout: 10m
  priority: 3
  nodeSelector: {matchLabels: {tier: gpu}}
";
pub const TWO: &str = "apiVersion: v1
kind: List
items:
- {apiVersion: drover.dev/v1alpha1, kind: ModelPull, metadata: {name: one, labels: {set: x}}, spec: {model: a}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: two, labels: {set: x}}, data: {a: b}}
";
pub const GENERATED: &str = "apiVersion: drover.dev/v1alpha1
kind: ModelPull
metadata: {generateName: made-}
spec: {model: m}
";
pub const CONFIG: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {a: '1', b: '2'}
";
pub const CONFIG_WITHOUT: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {b: '3'}
";
pub const EVENT: &str = "apiVersion: v1
kind: Event
metadata: {name: llama.1}
involvedObject: {apiVersion: drover.dev/v1alpha1, kind: ModelPull, name: llama, namespace: NS}
reason: Pulled
message: All of it is there.
type: Normal
count: 2
source: {component: drover}
firstTimestamp: '2026-01-01T00:00:00Z'
lastTimestamp: '2026-01-01T00:01:00Z'
";
pub const HELD: &str = "apiVersion: drover.dev/v1alpha1
kind: ModelPull
metadata: {name: held, finalizers: [drover.dev/test]}
spec: {model: m}
";
