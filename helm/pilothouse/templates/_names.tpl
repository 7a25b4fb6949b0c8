{{/* Names, labels, versions. A template of ours takes the root context, or a dict with `root` and the rest. */}}

{{- define "pilothouse.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of everything; short enough that a pod of an Indexed Job still has a host name. */}}
{{- define "pilothouse.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Name of a Service inside the cluster: dict root, name (policy, weights, ...). */}}
{{- define "pilothouse.host" -}}
{{- printf "%s-%s.%s.svc" (include "pilothouse.fullname" .root) .name .root.Release.Namespace -}}
{{- end -}}

{{/* What never changes, so that selectors can use it: dict root, name. */}}
{{- define "pilothouse.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pilothouse.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- if .name }}
app.kubernetes.io/component: {{ .name | quote }}
{{- end }}
{{- end -}}

{{/* Labels of an object: dict root, name (may be empty). */}}
{{- define "pilothouse.labels" -}}
{{ include "pilothouse.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: pilothouse
app.kubernetes.io/managed-by: {{ .root.Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | quote }}
{{- end -}}

{{/*
"true" from this minor version of Kubernetes on, else nothing: dict root, version ("1.21"). Never .APIVersions.Has, which
knows nothing where there is no cluster.
*/}}
{{- define "pilothouse.since" -}}
{{- if semverCompare (printf ">=%s-0" .version) .root.Capabilities.KubeVersion.Version -}}true{{- end -}}
{{- end -}}

{{/* Namespace, name and labels of an object: dict root, name (component), suffix (of its name; may be empty). */}}
{{- define "pilothouse.metadata" -}}
name: {{ printf "%s%s" (include "pilothouse.fullname" .root) (ternary (printf "-%s" .suffix) "" (ne (toString .suffix) "")) | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "pilothouse.labels" . | nindent 2 }}
{{- end -}}
