{{- define "drover.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Short enough for every suffix that this chart appends. */}}
{{- define "drover.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "drover.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "drover.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The name of a cluster-scoped object: releases of one name in two namespaces must not share it. */}}
{{- define "drover.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "drover.fullname" .) }}
{{- end }}

{{/* The labels by which pods are found. Takes (list . component). */}}
{{- define "drover.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "drover.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* All labels. Takes (list . component). */}}
{{- define "drover.labels" -}}
{{- $root := index . 0 -}}
{{ include "drover.selectorLabels" . }}
app.kubernetes.io/part-of: drover
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The name of a component's ServiceAccount. Takes (list . component). */}}
{{- define "drover.serviceAccountName" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $account := (index $root.Values $component).serviceAccount -}}
{{- $made := printf "%s-%s" (include "drover.fullname" $root) $component -}}
{{- if $account.create -}}
{{- default $made $account.name -}}
{{- else -}}
{{- required (printf "%s.serviceAccount.name: name the ServiceAccount that is there already" $component) $account.name -}}
{{- end -}}
{{- end }}

{{/* The namespace whose models the gateway serves. */}}
{{- define "drover.gatewayNamespace" -}}
{{- $served := coalesce .Values.gateway.namespace .Values.namespace .Release.Namespace -}}
{{- if and .Values.namespace (ne $served .Values.namespace) -}}
{{- fail (printf "gateway.namespace: the controller looks after namespace %s only; leave it empty" .Values.namespace) -}}
{{- end -}}
{{- $served -}}
{{- end }}

{{/* The components that run. */}}
{{- define "drover.components" -}}
controller gateway{{ if .Values.mirror.enabled }} mirror{{ end }}
{{- end }}

{{/* The Secret with the key of the mirror. */}}
{{- define "drover.mirrorKeySecret" -}}
{{- default (printf "%s-mirror-key" (include "drover.fullname" .)) .Values.mirror.key.existingSecret }}
{{- end }}

{{/* The volume with the key of the mirror, in the controller and in the mirror. */}}
{{- define "drover.mirrorKeyVolume" -}}
- name: mirror-key
  secret:
    secretName: {{ include "drover.mirrorKeySecret" . }}
    items: [{key: {{ .Values.mirror.key.key }}, path: key}]
{{- end }}

{{/* Keys of providers: files NAMESPACE/SECRET/KEY for objects in the namespace that the gateway serves. */}}
{{- define "drover.providerKeyMounts" -}}
{{- $namespace := include "drover.gatewayNamespace" . -}}
{{- range .Values.provider.secrets }}
- {name: {{ printf "provider-key-%s" (sha256sum . | trunc 10) }}, mountPath: {{ printf "/etc/drover/provider-keys/%s/%s" $namespace . | quote }}, readOnly: true}
{{- end }}
{{- end }}

{{/* A Secret that isn't there yet keeps no pod from starting: its provider says what is missing. */}}
{{- define "drover.providerKeyVolumes" -}}
{{- range .Values.provider.secrets }}
- name: {{ printf "provider-key-%s" (sha256sum . | trunc 10) }}
  secret: {secretName: {{ . | quote }}, optional: true}
{{- end }}
{{- end }}

{{/* The certificates in a value such as mirror.ca, as a volume named ca; nothing without any. Takes (list name-of-the-value value). */}}
{{- define "drover.caVolume" -}}
{{- $ca := index . 1 -}}
{{- if and $ca.secret $ca.configMap -}}
{{- fail (printf "%s: name a secret or a configMap, not both" (index . 0)) -}}
{{- end -}}
{{- with $ca.secret }}
- name: ca
  secret:
    secretName: {{ . }}
    items: [{key: {{ $ca.key }}, path: ca.crt}]
{{- end }}
{{- with $ca.configMap }}
- name: ca
  configMap:
    name: {{ . }}
    items: [{key: {{ $ca.key }}, path: ca.crt}]
{{- end }}
{{- end }}

{{- define "drover.caMount" -}}
- {name: ca, mountPath: /etc/drover/ca, readOnly: true}
{{- end }}

{{- define "drover.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}

{{/* Settings that every program takes. */}}
{{- define "drover.commonArgs" -}}
- --log-format={{ .Values.log.format }}
- {{ printf "--log-level=%s" .Values.log.level | quote }}
- --drain-timeout={{ .Values.drainTimeoutSeconds | int }}s
- --health-listen=0.0.0.0:11438
{{- end }}

{{- define "drover.probes" -}}
livenessProbe:
  httpGet: {path: /livez, port: health}
  periodSeconds: 10
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 2
  failureThreshold: 2
{{- end }}

{{/* What the pods of all components have in common. Takes (list . component). */}}
{{- define "drover.podSettings" -}}
{{- $root := index . 0 -}}
{{- $own := index $root.Values (index . 1) -}}
serviceAccountName: {{ include "drover.serviceAccountName" . }}
# A Service named like the release would put DROVER_… variables, which are settings, into the environment.
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Environment variables of a component from its other values: what is secret is no argument. Takes (list . component). */}}
{{- define "drover.ownEnv" -}}
{{- /* The controller keeps its audit where the gateways keep their run records. */}}
{{- $keeper := ternary "gateway" (index . 1) (eq (index . 1) "controller") -}}
{{- $records := (index (index . 0).Values $keeper).records -}}
{{- if and $records $records.secret }}
- name: DROVER_RECORDS
  valueFrom:
    secretKeyRef:
      name: {{ $records.secret }}
      key: {{ $records.key }}
{{- end }}
{{- end }}

{{/* What the containers of all components have in common. Takes (list . component). */}}
{{- define "drover.containerSettings" -}}
{{- $root := index . 0 -}}
{{- $own := index $root.Values (index . 1) -}}
image: {{ include "drover.image" $root | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
{{- with $root.Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat (include "drover.ownEnv" . | fromYamlArray) $own.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{ include "drover.probes" $root }}
{{- end }}
