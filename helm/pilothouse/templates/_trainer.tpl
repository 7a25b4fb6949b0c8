{{/*
The trainer as a Job: dict root, c, annotations.

A Job's pods cannot be changed, nor what counts them, so its name carries the digest of both. An upgrade that changes nothing
in them leaves the Job alone; one that does makes another Job, which waits for the lease while Helm deletes the old one: that one's
trainer finishes its step, writes a checkpoint and gives the lease up, and the new one goes on from there.
*/}}
{{- define "pilothouse.trainerJob" -}}
{{- $c := .c -}}
{{- $full := include "pilothouse.fullname" .root -}}
{{- $several := gt (int $c.ranks) 1 -}}
{{- $perPod := max 1 (int $c.gpu.count) -}}
{{- $run := concat (list "pilothouse") $c.command (list "--config" "/etc/pilothouse/pilothouse.toml") -}}
{{- $env := list -}}
{{- /* Only what trains opens ports, and of its ranks the first; a lost one is noticed by the others. */ -}}
{{- if or $several (ne (first $c.command) "train") -}}{{- include "pilothouse.withoutProbes" $c -}}{{- end -}}
{{- if $several -}}
{{- $env = include "pilothouse.rankEnv" (dict "root" .root "c" $c "perPod" $perPod) | fromYamlArray -}}
{{- end -}}
{{- if gt $perPod 1 -}}
{{- $run = concat (include "pilothouse.torchrun" (dict "c" $c "perPod" $perPod "several" $several) | fromYamlArray) $run -}}
{{- end -}}
{{- $pod := include "pilothouse.podTemplate" (merge (dict "job" true "command" $run "env" $env "subdomain" (ternary (printf "%s-trainer-ranks" $full) "" $several)) .) -}}
{{- $fixed := include "pilothouse.jobFixed" (dict "root" .root "c" $c) | trim -}}
{{- $name := printf "%s-trainer-%s" $full (printf "%s\n%s" $fixed $pod | sha256sum | trunc 8) -}}
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "pilothouse.metadata" (dict "root" .root "name" "trainer" "suffix" (trimPrefix (printf "%s-" $full) $name)) | nindent 2 }}
spec:
  backoffLimit: {{ mul (int $c.job.backoffLimit) (int $c.ranks) }}{{/* it counts pods, and a rank that is lost ends all */}}
  {{- with int $c.job.activeDeadlineSeconds }}
  activeDeadlineSeconds: {{ . }}
  {{- end }}
  {{- with int $c.job.ttlSecondsAfterFinished }}
  ttlSecondsAfterFinished: {{ . }}
  {{- end }}
  {{- if $several }}
  parallelism: {{ int $c.ranks }}
  {{- end }}
  {{- with $fixed }}
  {{- . | nindent 2 }}
  {{- end }}
  template:
    {{- $pod | replace "JOB_NAME_OF_RANKS" $name | nindent 4 }}
{{- end -}}

{{/* What of a Job's spec, beside its pods, the API server lets nobody change: dict root, c. Some hangs on its version. */}}
{{- define "pilothouse.jobFixed" -}}
{{- if gt (int .c.ranks) 1 }}
completionMode: Indexed
completions: {{ int .c.ranks }}
{{- end }}
{{- if include "pilothouse.since" (dict "root" .root "version" "1.26") }}
podFailurePolicy:
  rules:
    # Eviction, preemption and lost nodes are not the trainer's failures; a wrong configuration stays wrong.
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
    - action: FailJob
      onExitCodes:
        containerName: trainer
        operator: In
        values: [2]
{{- end }}
{{- end -}}

{{/* What a trainer reads of the configuration, as a YAML list; all where its command is not one of these: the component. */}}
{{- define "pilothouse.trainerSections" -}}
{{- $read := dict "train ppo" "ppo" "train sft" "sft" "train reward-model" "reward_model" "eval" "evaluation" -}}
{{- $all := "sft, reward_model, ppo, evaluation, loop" -}}
{{- $sections := ternary "reward_model, ppo, loop" (get $read (join " " .command) | default $all) (eq .kind "loop") -}}
[{{ $sections }}, tls]
{{- end -}}

{{/* Where torch.distributed meets, one process a pod: dict root, c, perPod. */}}
{{- define "pilothouse.rankEnv" -}}
- name: RANK
  valueFrom:
    fieldRef:
      fieldPath: metadata.annotations['batch.kubernetes.io/job-completion-index']
- name: WORLD_SIZE
  value: {{ int .c.ranks | toString | quote }}
- name: MASTER_ADDR
  value: {{ printf "JOB_NAME_OF_RANKS-0.%s" (include "pilothouse.host" (dict "root" .root "name" "trainer-ranks")) | quote }}
- name: MASTER_PORT
  value: {{ int .c.rendezvousPort | toString | quote }}
{{- end -}}

{{/* What starts one process for each GPU of a pod: dict c, perPod, several. */}}
{{- define "pilothouse.torchrun" -}}
- torchrun
# As long as the pod has, less a reserve: torchrun kills after half a minute otherwise, in the middle of a checkpoint.
- {{ printf "--shutdown-timeout=%d" (max 30 (sub (int .c.graceSeconds) 15)) | quote }}
- {{ printf "--nproc-per-node=%d" (int .perPod) | quote }}
{{- if .several }}
- {{ printf "--nnodes=%d" (int .c.ranks) | quote }}
- "--node-rank=$(RANK)"
- "--master-addr=$(MASTER_ADDR)"
- "--master-port=$(MASTER_PORT)"
{{- else }}
- "--standalone"
{{- end }}
- "--no-python"
{{- end -}}
