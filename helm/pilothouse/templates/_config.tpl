{{/*
The configuration file. `pilothouse.config` is what the processes read, as JSON: what the chart knows, `config` of the
values merged over it. `pilothouse.toml` writes it as TOML.
*/}}

{{/* The whole configuration as JSON; computed once for each file that asks. */}}
{{- define "pilothouse.config" -}}
{{- if not (hasKey . "configOnce") -}}
{{- $given := deepCopy (default dict .Values.config) -}}
{{- $_ := set . "configOnce" (mergeOverwrite (include "pilothouse.config.computed" . | fromYaml) $given | toJson) -}}
{{- end -}}
{{- get . "configOnce" -}}
{{- end -}}

{{- define "pilothouse.config.computed" -}}
{{- $full := include "pilothouse.fullname" . -}}
{{- $namespace := .Release.Namespace -}}
{{- $insecure := eq .Values.tls.mode "none" -}}
{{- $given := default dict .Values.config -}}
{{- $seconds := include "pilothouse.longestCallSeconds" . | fromJson -}}
{{- if not $insecure }}
tls:
  cert_file: /etc/pilothouse/tls/tls.crt
  key_file: /etc/pilothouse/tls/tls.key
  ca_file: /etc/pilothouse/tls/ca.crt
{{- end }}
policy:
  server:
    {{- include "pilothouse.config.server" (dict "insecure" $insecure "http" 8080 "seconds" $seconds.policy) | nindent 4 }}
  weights_server:
    {{- include "pilothouse.config.server" (dict "insecure" $insecure "port" 50052) | nindent 4 }}
  {{- include "pilothouse.config.device" (dict "root" $ "name" "policy" "device" "cuda:0") | nindent 2 }}
  {{- if eq (dig "policy" "model" "tiny" $given) "tiny" }}
  max_sequence_tokens: 128
  {{- end }}
  catch_up:
    peers:
      - {{ printf "dns:///%s:%d" (include "pilothouse.host" (dict "root" $ "name" "weights")) (dig "policy" "weights_server" "port" 50052 $given | int) | quote }}
    {{- if dig "mountRuns" $.Values.defaults.mountRuns .Values.policy }}
    run: {{ printf "%s/%s" (dig "ppo" "run" "folder" "runs" $given) (dig "ppo" "run" "name" "ppo" $given) | quote }}
    {{- end }}
reward:
  server:
    {{- include "pilothouse.config.server" (dict "insecure" $insecure "http" 8080 "seconds" $seconds.reward) | nindent 4 }}
  models_server:
    {{- include "pilothouse.config.server" (dict "insecure" $insecure "port" 50052) | nindent 4 }}
  {{- include "pilothouse.config.device" (dict "root" $ "name" "reward" "device" "cuda:0") | nindent 2 }}
  {{- if .Values.triton.enabled }}
  backend: triton
  model: {{ .Values.triton.model | quote }}
  triton:
    target: {{ printf "%s:8001" (include "pilothouse.host" (dict "root" $ "name" "triton")) | quote }}
  {{- else if eq (dig "reward" "backend" "rules" $given) "rules" }}
  # A rule reads text, and the trainer sends the policy's token ids.
  tokenizer: {{ dig "policy" "model" "tiny" $given | quote }}
  {{- end }}
  {{- if eq .Values.trainer.kind "loop" }}
  models_folder: /var/lib/pilothouse/reward-models
  {{- end }}
reference:
  server:
    {{- include "pilothouse.config.server" (dict "insecure" $insecure "http" 8080 "seconds" $seconds.reference) | nindent 4 }}
  {{- include "pilothouse.config.device" (dict "root" $ "name" "reference" "device" "cuda:0") | nindent 2 }}
feedback:
  server:
    {{- include "pilothouse.config.server" (dict "insecure" $insecure "http" 8080) | nindent 4 }}
    drain_seconds: 30
  page:
    host: 0.0.0.0
    port: 8000
    address: {{ include "pilothouse.pageAddress" . | quote }}
    {{- if not (hasPrefix "https:" (include "pilothouse.pageAddress" .)) }}
    allow_insecure: true
    {{- end }}
  {{- if not .Values.feedback.postgresql.enabled }}
  database: sqlite:////var/lib/pilothouse/feedback/feedback.db
  {{- end }}
{{- range $section := list "ppo" "sft" "reward_model" }}
{{ $section }}:
  server:
    {{- include "pilothouse.config.server" (dict "insecure" $insecure "http" 8080) | nindent 4 }}
    drain_seconds: 30
  {{- /* No number: each process of a pod takes the GPU of its rank. */}}
  {{- include "pilothouse.config.device" (dict "root" $ "name" "trainer" "device" "cuda") | nindent 2 }}
  {{- if eq $section "ppo" }}
  services:
    {{- include "pilothouse.config.services" $ | nindent 4 }}
    policy: {{ printf "kubernetes:///%s-policy.%s:%d" $full $namespace (dig "policy" "server" "port" 50051 $given | int) | quote }}
    weights: {{ printf "kubernetes:///%s-weights.%s:%d" $full $namespace (dig "policy" "weights_server" "port" 50052 $given | int) | quote }}
  lease:
    name: {{ printf "%s-trainer" $full | quote }}
    namespace: {{ $namespace | quote }}
  {{- if not (dig "ppo" "rollout" "prompts" "" $given) }}
  rollout:
    prompts: [data/prompts.jsonl]
  {{- end }}
  {{- end }}
{{- end }}
evaluation:
  {{- if not (dig "evaluation" "prompts" "" $given) }}
  prompts: [data/held-out.jsonl]
  {{- end }}
  services:
    {{- include "pilothouse.config.services" $ | nindent 4 }}
    policy: {{ printf "dns:///%s:%d" (include "pilothouse.host" (dict "root" $ "name" "policy")) (dig "policy" "server" "port" 50051 $given | int) | quote }}
    weights: {{ printf "dns:///%s:%d" (include "pilothouse.host" (dict "root" $ "name" "weights")) (dig "policy" "weights_server" "port" 50052 $given | int) | quote }}
loop:
  feedback: {{ printf "dns:///%s:%d" (include "pilothouse.host" (dict "root" $ "name" "feedback")) (dig "feedback" "server" "port" 50051 $given | int) | quote }}
  reward_models: {{ printf "dns:///%s:%d" (include "pilothouse.host" (dict "root" $ "name" "reward")) (dig "reward" "models_server" "port" 50052 $given | int) | quote }}
  models_folder: /var/lib/pilothouse/reward-models
{{- end -}}

{{/*
Where a server listens: dict insecure, port (50051), http (none), seconds (longest call, drained to its end).
*/}}
{{- define "pilothouse.config.server" -}}
host: 0.0.0.0
port: {{ default 50051 .port }}
http_port: {{ default -1 .http }}
{{- if .insecure }}
allow_insecure: true
{{- end }}
{{- with .seconds }}
max_deadline_seconds: {{ . }}
drain_seconds: {{ add (ceil . | int) 10 }}
{{- end }}
{{- end -}}

{{/* The device of a component that has GPUs: dict root, name, device. */}}
{{- define "pilothouse.config.device" -}}
{{- $values := .root.Values -}}
{{- if gt (int (dig "gpu" "count" $values.defaults.gpu.count (index $values .name))) 0 }}
device: {{ .device | quote }}
{{- end }}
{{- end -}}

{{/* What the trainer asks by DNS, spread over all Ready pods. */}}
{{- define "pilothouse.config.services" -}}
{{- $given := default dict .Values.config -}}
reward: {{ printf "dns:///%s:%d" (include "pilothouse.host" (dict "root" . "name" "reward")) (dig "reward" "server" "port" 50051 $given | int) | quote }}
reference: {{ printf "dns:///%s:%d" (include "pilothouse.host" (dict "root" . "name" "reference")) (dig "reference" "server" "port" 50051 $given | int) | quote }}
wait_seconds: 600
{{- end -}}

{{/*
Longest call of each model's service in seconds, as JSON: whatever its caller wants, a server ends it then. A pod that is to
end waits for longer than that, so that no generation is cut off by an upgrade.
*/}}
{{- define "pilothouse.longestCallSeconds" -}}
{{- $given := default dict .Values.config -}}
{{- $trainer := dig "ppo" "services" "call_timeout_seconds" 600 $given -}}
{{- $longest := dict -}}
{{- range $name := list "policy" "reward" "reference" -}}
{{- $_ := set $longest $name (dig $name "server" "max_deadline_seconds" $trainer $given) -}}
{{- end -}}
{{- toJson $longest -}}
{{- end -}}

{{/* What people type to get to the page: the name in front of it, else the near end of a forwarded port. */}}
{{- define "pilothouse.pageAddress" -}}
{{- if and .Values.ingress.enabled .Values.ingress.host -}}
{{ ternary "https" "http" .Values.ingress.tls.enabled }}://{{ .Values.ingress.host }}
{{- else if and .Values.gateway.enabled .Values.gateway.page.enabled .Values.gateway.page.hostname -}}
https://{{ .Values.gateway.page.hostname }}
{{- else -}}
http://localhost:{{ dig "feedback" "page" "port" 8000 (default dict .Values.config) | int }}
{{- end -}}
{{- end -}}

{{/*
The configuration as TOML. Helm's own toToml writes every number of a values file as a float (128.0, 1e+06), so this
writes JSON's scalars, which are TOML's too; what is null is left out.
*/}}
{{- define "pilothouse.toml" -}}
{{- range $section, $values := include "pilothouse.config" . | fromJson }}
{{- include "pilothouse.toml.table" (dict "path" (include "pilothouse.toml.key" $section) "values" $values) }}
{{- end }}
{{- end -}}

{{/* A table with its tables below it: dict path, values. */}}
{{- define "pilothouse.toml.table" -}}
{{- $path := .path }}
[{{ $path }}]
{{- range $key, $value := .values }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ include "pilothouse.toml.key" $key }} = {{ include "pilothouse.toml.value" $value }}
{{- end }}
{{- end }}
{{ range $key, $value := .values }}
{{- if kindIs "map" $value }}
{{- include "pilothouse.toml.table" (dict "path" (printf "%s.%s" $path (include "pilothouse.toml.key" $key)) "values" $value) }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "pilothouse.toml.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . -}}{{ . }}{{- else -}}{{ toRawJson . }}{{- end -}}
{{- end -}}

{{/* A value on one line. */}}
{{- define "pilothouse.toml.value" -}}
{{- if kindIs "map" . -}}
{{- $parts := list -}}
{{- range $key, $value := . -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $parts = append $parts (printf "%s = %s" (include "pilothouse.toml.key" $key) (include "pilothouse.toml.value" $value)) -}}
{{- end -}}
{{- end -}}
{ {{- join ", " $parts -}} }
{{- else if kindIs "slice" . -}}
{{- $parts := list -}}
{{- range $value := . -}}
{{- $parts = append $parts (include "pilothouse.toml.value" $value) -}}
{{- end -}}
[{{ join ", " $parts }}]
{{- else -}}
{{- toRawJson . -}}
{{- end -}}
{{- end -}}

{{/* Digest of the sections that a component reads, so that its pods roll when those change and at no other time: dict root, c. */}}
{{- define "pilothouse.configDigest" -}}
{{- $config := include "pilothouse.config" .root | fromJson -}}
{{- $read := dict -}}
{{- range $section := .c.sections -}}
{{- $_ := set $read $section (get $config $section) -}}
{{- end -}}
{{- toJson $read | sha256sum -}}
{{- end -}}
