{{/*
What values.schema.json cannot tell: settings that do not go together. Every problem is one line that says what mends it;
all of them are told at once.
*/}}

{{- define "pilothouse.check" -}}
{{- $problems := list -}}
{{- range list "components" "trainer" "feedback" "reward" "tls" "config" "outside" "triton" -}}
{{- range include (printf "pilothouse.check.%s" .) $ | splitList "\n" -}}
{{- with trim . -}}{{- $problems = append $problems . -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "the values do not go together:\n- %s" (join "\n- " $problems)) -}}
{{- end -}}
{{- end -}}

{{/* What holds for every component: its name, seconds to end in, who counts replicas. */}}
{{- define "pilothouse.check.components" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" (include "pilothouse.fullname" .)) }}
the release's objects would be called {{ include "pilothouse.fullname" . }}-...: names of Services begin with a letter and have a to z, 0 to 9 and - only; choose another release name, or set fullnameOverride
{{- end -}}
{{- range $name := include "pilothouse.enabled" . | fromJsonArray -}}
{{- $c := include "pilothouse.component" (dict "root" $ "name" $name) | fromJson -}}
{{- $needed := add (int $c.preStopSeconds) (ceil $c.server.drain_seconds | int) -}}
{{- if le (int $c.graceSeconds) (int $needed) }}
{{ $name }}.terminationGracePeriodSeconds is {{ $c.graceSeconds }}: it must be above preStopSeconds + {{ $c.section }}.server.drain_seconds = {{ $needed }}, or 0 to have it computed
{{- end -}}
{{- if and (has $name (list "policy" "reward" "reference")) (le (float64 $c.server.drain_seconds) (float64 $c.server.max_deadline_seconds)) }}
config.{{ $name }}.server.drain_seconds is {{ $c.server.drain_seconds }}: it must be above max_deadline_seconds = {{ $c.server.max_deadline_seconds }}, so that the longest call ends before its pod does; leave it out to have it computed
{{- end -}}
{{- if and $c.autoscaling.enabled $c.keda.enabled }}
{{ $name }}.autoscaling and {{ $name }}.keda are both enabled: each would set the number of replicas; choose one
{{- end -}}
{{- range $scaler := list "autoscaling" "keda" -}}
{{- $range := index $c $scaler -}}
{{- if and $range.enabled (gt (int $range.minReplicas) (int $range.maxReplicas)) }}
{{ $name }}.{{ $scaler }}.minReplicas is {{ $range.minReplicas }} and maxReplicas {{ $range.maxReplicas }}: raise the latter, or lower the former
{{- end -}}
{{- end -}}
{{- if and $c.autoscaling.enabled (not $c.autoscaling.cpuUtilization) (not $c.autoscaling.queue.averageValue) }}
{{ $name }}.autoscaling has nothing to go by: set cpuUtilization or queue.averageValue
{{- end -}}
{{- if and $c.autoscaling.enabled $c.autoscaling.cpuUtilization (not (dig "requests" "cpu" "" $c.resources)) }}
{{ $name }}.autoscaling.cpuUtilization is a share of {{ $name }}.resources.requests.cpu, which is not set
{{- end -}}
{{- if and $c.keda.enabled (not $c.keda.serverAddress) }}
{{ $name }}.keda.serverAddress is empty: give the address of Prometheus, for example http://prometheus.monitoring:9090
{{- end -}}
{{- $numbers := values $c.ports -}}
{{- if ne (len $numbers) (len (uniq $numbers)) }}
config: two servers of {{ $name }} have one port ({{ toJson $c.ports }}); leave the ports out, or give each its own
{{- end -}}
{{- range $port, $number := $c.ports -}}
{{- if lt (int $number) 1 }}
config: port {{ $port }} of {{ $name }} is {{ $number }}: a pod needs a fixed one; leave it out
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pilothouse.check.trainer" -}}
{{- if .Values.trainer.enabled -}}
{{- $c := include "pilothouse.component" (dict "root" $ "name" "trainer") | fromJson -}}
{{- $given := default dict .Values.config -}}
{{- if or $c.autoscaling.enabled $c.keda.enabled (ne (int $c.replicas) 1) }}
trainer: there is one; set trainer.ranks for a job over several pods, and leave replicas, autoscaling and keda alone
{{- end -}}
{{- if and .Values.rbac.create (not $c.serviceAccount.create) (not $c.serviceAccount.name) }}
trainer.serviceAccount.create is false and its name is empty: every pod of the namespace that runs as default would have the trainer's rights; name an account, or set rbac.create=false
{{- end -}}
{{- if and $c.pdb.enabled (eq $c.kind "job") (eq (toString $c.pdb.minAvailable) "") }}
trainer.pdb: Kubernetes takes minAvailable only for the pods of a Job; set it, or trainer.pdb.enabled=false
{{- end -}}
{{- if and (gt (int $c.gpu.count) 1) (regexMatch "^cuda:[0-9]" (dig "ppo" "device" "" $given)) }}
config.ppo.device is {{ $given.ppo.device }} and the pod has {{ $c.gpu.count }} GPUs, one for each process: leave it out, or set it to cuda
{{- end -}}
{{- if gt (int $c.ranks) 1 -}}
{{- if eq $c.kind "loop" }}
trainer.ranks is {{ $c.ranks }}: a loop has one process; set trainer.kind=job or trainer.ranks=1
{{- end -}}
{{- if not (include "pilothouse.since" (dict "root" $ "version" "1.22")) }}
trainer.ranks is {{ $c.ranks }}: Indexed Jobs need Kubernetes 1.22, this is {{ .Capabilities.KubeVersion.Version }}; set trainer.ranks=1
{{- end -}}
{{- $runs := .Values.persistence.runs -}}
{{- if not (or $runs.existingClaim (and $runs.enabled (has "ReadWriteMany" $runs.accessModes))) }}
trainer.ranks is {{ $c.ranks }}: all of them mount the runs; set persistence.runs.accessModes=[ReadWriteMany], or an existingClaim that several nodes can mount
{{- end -}}
{{- end -}}
{{- if or (eq $c.kind "loop") (has "ppo" $c.command) -}}
{{- range $name := list "policy" "reward" "reference" -}}
{{- if not (or (index $.Values $name).enabled (dig "ppo" "services" $name "" $given)) }}
{{ $name }}.enabled is false and the trainer needs it: enable it, or set config.ppo.services.{{ $name }} to where it is
{{- end -}}
{{- end -}}
{{- if not (or .Values.policy.enabled (dig "ppo" "services" "weights" "" $given)) }}
policy.enabled is false and the trainer pushes weights to it: enable it, or set config.ppo.services.weights to where they go
{{- end -}}
{{- end -}}
{{- if and (eq $c.kind "loop") (not .Values.feedback.enabled) (not (dig "loop" "feedback" "" $given)) }}
feedback.enabled is false and the loop needs it: enable it, or set config.loop.feedback to where it is
{{- end -}}
{{- if and (eq $c.kind "loop") (not (dig "loop" "prompts" "" $given)) }}
config.loop.prompts is empty: name the files, under data/, with the prompts that people's rankings start from
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pilothouse.check.feedback" -}}
{{- if .Values.feedback.enabled -}}
{{- $c := include "pilothouse.component" (dict "root" $ "name" "feedback") | fromJson -}}
{{- if dig "feedback" "database" "" (default dict .Values.config) }}
config.feedback.database is the chart's: leave it out for SQLite on a volume, or set feedback.postgresql.existingSecret
{{- end -}}
{{- if $c.postgresql.enabled -}}
{{- if not $c.postgresql.existingSecret }}
feedback.postgresql.existingSecret is empty: name a Secret whose key {{ $c.postgresql.key }} holds postgresql+psycopg://USER:PASSWORD@HOST/NAME
{{- end -}}
{{- else if or (gt (int $c.replicas) 1) $c.autoscaling.enabled $c.keda.enabled }}
feedback: SQLite has one process; set feedback.replicas=1 without autoscaling, or feedback.postgresql.enabled=true
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pilothouse.check.reward" -}}
{{- if and .Values.reward.enabled (include "pilothouse.hasRewardModels" .) -}}
{{- $c := include "pilothouse.component" (dict "root" $ "name" "reward") | fromJson -}}
{{- if or (gt (int $c.replicas) 1) $c.autoscaling.enabled $c.keda.enabled }}
reward: each process needs a reward.models_folder of its own, and a promotion reaches one; set reward.replicas=1 without autoscaling
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pilothouse.check.tls" -}}
{{- if eq .Values.tls.mode "existingSecret" -}}
{{- range $name := include "pilothouse.identities" . | fromJsonArray -}}
{{- $c := dict "name" $name "tlsSecret" "" -}}
{{- if ne $name "client" -}}{{- $c = include "pilothouse.component" (dict "root" $ "name" $name) | fromJson -}}{{- end -}}
{{- if not (include "pilothouse.tlsSecretName" (dict "root" $ "c" $c)) }}
tls.mode is existingSecret and {{ $name }} has none: set tls.existingSecret{{ if ne $name "client" }}, or {{ $name }}.tlsSecret,{{ end }} to a Secret with tls.crt, tls.key and ca.crt
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Addresses that only the laptop knew. */}}
{{- define "pilothouse.check.config" -}}
{{- $config := include "pilothouse.config" . | fromJson -}}
{{- range $section := list "reward" "loop" -}}
{{- $folder := default "" (get (get $config $section) "models_folder") -}}
{{- if not (has $folder (list "" "none" "reward-models" "/var/lib/pilothouse/reward-models")) }}
config.{{ $section }}.models_folder is {{ $folder }}: the volume that trainer and reward share is reward-models; set it to that, or leave it out
{{- end -}}
{{- end -}}
{{- $local := "^((ipv4:|dns:///)?(127\\.|localhost)|(ipv6:)?\\[::1\\]|unix:)" -}}
{{- range $path := list "ppo.services" "evaluation.services" "loop" "policy.server" "policy.weights_server" "reward.server" "reward.models_server" "reference.server" "feedback.server" "feedback.page" "ppo.server" "sft.server" "reward_model.server" -}}
{{- $section := $config -}}
{{- range splitList "." $path -}}{{- $section = default dict (get $section .) -}}{{- end -}}
{{- range $key := list "policy" "weights" "reward" "reference" "feedback" "reward_models" "host" -}}
{{- if regexMatch $local (default "" (get $section $key) | toString) }}
config.{{ $path }}.{{ $key }} is {{ get $section $key }}, which no other pod can reach: leave it out, the chart sets it
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pilothouse.check.outside" -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) }}
ingress.host is empty: give the name that people type
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.feedback.enabled) }}
ingress leads to the page of feedback, which is not enabled
{{- end -}}
{{- if .Values.gateway.enabled -}}
{{- if not .Values.gateway.parentRefs }}
gateway.parentRefs is empty: name the Gateway, for example [{name: public, namespace: gateways}]
{{- end -}}
{{- range $route := list "page" "policy" "reward" "feedback" -}}
{{- $settings := index $.Values.gateway $route -}}
{{- $name := ternary "feedback" $route (eq $route "page") -}}
{{- if and $settings.enabled (not $settings.hostname) (index $.Values $name).enabled }}
gateway.{{ $route }}.hostname is empty: give the name that clients call, or set gateway.{{ $route }}.enabled=false
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.models.fetch.enabled (not .Values.models.fetch.image) }}
models.fetch.image is empty: name the image that brings the models
{{- end -}}
{{- end -}}

{{- define "pilothouse.check.triton" -}}
{{- if .Values.triton.enabled -}}
{{- $reward := (include "pilothouse.config" . | fromJson).reward -}}
{{- $backends := list (get $reward "backend") -}}
{{- range default list (get $reward "parts") -}}{{- $backends = append $backends (get . "backend") -}}{{- end -}}
{{- if or (not .Values.reward.enabled) (not (has "triton" $backends)) }}
triton.enabled is true and nobody asks it: leave reward.enabled and config.reward.backend as they are, or set triton.enabled=false
{{- end -}}
{{- if not .Values.triton.image }}
triton.image is empty: name an image of Triton with the python backend and Python's onnxruntime and numpy
{{- end -}}
{{- if not .Values.triton.model }}
triton.model is empty: name the folder under models/ that `pilothouse export` wrote, for example models/reward-onnx
{{- else if not (hasPrefix "models/" .Values.triton.model) }}
triton.model is {{ .Values.triton.model }}: it must lie under models/, the volume that Triton mounts
{{- end -}}
{{- if not (or .Values.models.persistence.enabled .Values.models.persistence.existingClaim) }}
triton needs the volume of the models: set models.persistence.enabled=true or models.persistence.existingClaim
{{- end -}}
{{- end -}}
{{- end -}}
