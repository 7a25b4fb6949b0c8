{{/*
Deployments and Services. Why which kind: docs/decisions/0015-the-chart.md.
*/}}

{{/* A Deployment, or with `kind` a StatefulSet: what "pilothouse.podTemplate" takes, and kind, strategy. */}}
{{- define "pilothouse.workload" -}}
{{- $c := .c -}}
{{- $kind := default "Deployment" .kind -}}
apiVersion: apps/v1
kind: {{ $kind }}
metadata:
  {{- include "pilothouse.metadata" (dict "root" .root "name" $c.name "suffix" $c.name) | nindent 2 }}
spec:
  {{- if not (or $c.autoscaling.enabled $c.keda.enabled) }}
  replicas: {{ int $c.replicas }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "pilothouse.selectorLabels" (dict "root" .root "name" $c.name) | nindent 6 }}
  {{- if eq $kind "StatefulSet" }}
  serviceName: {{ printf "%s-%s" (include "pilothouse.fullname" .root) $c.name | quote }}
  podManagementPolicy: Parallel
  updateStrategy:
    type: RollingUpdate
  {{- else }}
  progressDeadlineSeconds: {{ include "pilothouse.progressSeconds" $c }}
  revisionHistoryLimit: 5
  strategy:
    {{- if .strategy }}
    {{- toYaml .strategy | nindent 4 }}
    {{- else if $c.strategy }}
    {{- toYaml $c.strategy | nindent 4 }}
    {{- else }}
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
    {{- end }}
  {{- end }}
  template:
    {{- include "pilothouse.podTemplate" . | nindent 4 }}
{{- end -}}

{{/*
A rollout is late only when the pod before has had its whole time to end, as with Recreate, the next its own to load, and a
minute to be scheduled: a component.
*/}}
{{- define "pilothouse.progressSeconds" -}}
{{- add (max 600 (mul (int .probes.startup.periodSeconds) (int .probes.startup.failureThreshold))) (int .graceSeconds) 60 -}}
{{- end -}}

{{/*
A headless Service, so that clients see every pod and balance by themselves: dict root, c, ports (names), and
  suffix           of its name; else the component's
  allPods          also those that are not Ready
*/}}
{{- define "pilothouse.service" -}}
{{- $c := .c -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "pilothouse.metadata" (dict "root" .root "name" $c.name "suffix" (default $c.name .suffix)) | nindent 2 }}
spec:
  type: ClusterIP
  clusterIP: None
  {{- if .allPods }}
  publishNotReadyAddresses: true
  {{- end }}
  selector:
    {{- include "pilothouse.selectorLabels" (dict "root" .root "name" $c.name) | nindent 4 }}
  ports:
    {{- range $port := .ports }}
    {{- if hasKey $c.ports $port }}
    - name: {{ $port | quote }}
      port: {{ get $c.ports $port | int }}
      targetPort: {{ $port | quote }}
      protocol: TCP
      {{- if ne $port "page" }}
      appProtocol: {{ ternary "http" "grpc" (eq $port "http") | quote }}
      {{- end }}
    {{- end }}
    {{- end }}
{{- end -}}

{{/* Command of a service's container: a component. */}}
{{- define "pilothouse.serveCommand" -}}
- python
- "-m"
- {{ .module | quote }}
- "--config"
- /etc/pilothouse/pilothouse.toml
{{- end -}}
