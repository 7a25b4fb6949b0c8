{{/* Volumes of the pods, their mounts, their claims, and the container that fetches models. */}}

{{/* "true" where there is a volume for models. */}}
{{- define "pilothouse.hasModels" -}}
{{- if or .Values.models.persistence.enabled .Values.models.persistence.existingClaim .Values.models.fetch.enabled -}}true{{- end -}}
{{- end -}}

{{/* "true" where the reward service and the trainer share reward models. */}}
{{- define "pilothouse.hasRewardModels" -}}
{{- if not (has (get (include "pilothouse.config" . | fromJson).reward "models_folder") (list nil "" "none")) -}}true{{- end -}}
{{- end -}}

{{/* "true" where SQLite keeps what people say. */}}
{{- define "pilothouse.hasSqlite" -}}
{{- if and .Values.feedback.enabled (not .Values.feedback.postgresql.enabled) -}}true{{- end -}}
{{- end -}}

{{/* Mounts of a component: dict root, c, mounts. */}}
{{- define "pilothouse.mounts" -}}
{{- $c := .c -}}
- name: config
  mountPath: /etc/pilothouse
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- if $c.shm.enabled }}
- name: shm
  mountPath: /dev/shm
{{- end }}
{{- if and $c.mountModels (include "pilothouse.hasModels" .root) }}
- name: models
  mountPath: /var/lib/pilothouse/models
  readOnly: true
{{- end }}
{{- if eq $c.name "trainer" }}
- name: runs
  mountPath: /var/lib/pilothouse/runs
- name: data
  mountPath: /var/lib/pilothouse/data
  readOnly: true
{{- else if $c.mountRuns }}
- name: runs
  mountPath: /var/lib/pilothouse/runs
  readOnly: true
{{- end }}
{{- if and (has $c.name (list "trainer" "reward")) (include "pilothouse.hasRewardModels" .root) }}
- name: reward-models
  mountPath: /var/lib/pilothouse/reward-models
{{- end }}
{{- if and (eq $c.name "feedback") (include "pilothouse.hasSqlite" .root) }}
- name: feedback
  mountPath: /var/lib/pilothouse/feedback
{{- end }}
{{- with .mounts }}
{{ toYaml . }}
{{- end }}
{{- with $c.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Volumes of a component: dict root, c, volumes. */}}
{{- define "pilothouse.volumes" -}}
{{- $c := .c -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
- name: config
  projected:
    defaultMode: 288 # 0440
    sources:
      {{- include "pilothouse.configSources" . | nindent 6 }}
- name: tmp
  emptyDir:
    sizeLimit: {{ $c.tmp.sizeLimit | quote }}
{{- if $c.shm.enabled }}
- name: shm
  emptyDir:
    medium: Memory
    sizeLimit: {{ $c.shm.sizeLimit | quote }}
{{- end }}
{{- if and $c.mountModels (include "pilothouse.hasModels" $root) }}
{{- if or $values.models.persistence.enabled $values.models.persistence.existingClaim }}
{{ include "pilothouse.claimVolume" (dict "root" $root "name" "models" "claim" $values.models.persistence) }}
{{- else }}
- name: models
  emptyDir:
    sizeLimit: {{ $values.models.cacheSizeLimit | quote }}
{{- end }}
{{- end }}
{{- if or (eq $c.name "trainer") $c.mountRuns }}
{{ include "pilothouse.claimVolume" (dict "root" $root "name" "runs" "claim" $values.persistence.runs) }}
{{- end }}
{{- if eq $c.name "trainer" }}
- name: data
  {{- if $values.trainer.data.existingClaim }}
  persistentVolumeClaim:
    claimName: {{ $values.trainer.data.existingClaim | quote }}
    readOnly: true
  {{- else }}
  configMap:
    name: {{ default (printf "%s-data" (include "pilothouse.fullname" $root)) $values.trainer.data.existingConfigMap | quote }}
  {{- end }}
{{- end }}
{{- if and (has $c.name (list "trainer" "reward")) (include "pilothouse.hasRewardModels" $root) }}
{{ include "pilothouse.claimVolume" (dict "root" $root "name" "reward-models" "claim" $values.persistence.rewardModels) }}
{{- end }}
{{- if and (eq $c.name "feedback") (include "pilothouse.hasSqlite" $root) }}
{{ include "pilothouse.claimVolume" (dict "root" $root "name" "feedback" "claim" $values.persistence.feedback) }}
{{- end }}
{{- with .volumes }}
{{ toYaml . }}
{{- end }}
{{- with $c.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
What stands at /etc/pilothouse: the configuration, and the component's certificate. One projected volume, because a mount
cannot be made inside a read-only one.
*/}}
{{- define "pilothouse.configSources" -}}
- configMap:
    name: {{ include "pilothouse.fullname" .root | quote }}
    items:
      - key: pilothouse.toml
        path: pilothouse.toml
{{- if ne .root.Values.tls.mode "none" }}
- secret:
    name: {{ include "pilothouse.tlsSecretName" . | quote }}
    items:
      - { key: tls.crt, path: tls/tls.crt }
      - { key: tls.key, path: tls/tls.key }
      - { key: ca.crt, path: tls/ca.crt }
{{- end }}
{{- end -}}

{{/* A volume behind a claim, or one that ends with its pod: dict root, name, claim. */}}
{{- define "pilothouse.claimVolume" -}}
- name: {{ .name | quote }}
  {{- if or .claim.enabled .claim.existingClaim }}
  persistentVolumeClaim:
    claimName: {{ default (printf "%s-%s" (include "pilothouse.fullname" .root) .name) .claim.existingClaim | quote }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ .claim.size | quote }}
  {{- end }}
{{- end -}}

{{/* The init container that brings models, as a YAML list of one or none: dict root, c. */}}
{{- define "pilothouse.fetchContainer" -}}
{{- $fetch := .root.Values.models.fetch -}}
{{- if and $fetch.enabled .c.mountModels -}}
- name: fetch-models
  image: {{ $fetch.image | quote }}
  imagePullPolicy: {{ .c.image.pullPolicy | quote }}
  {{- with $fetch.command }}
  command:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $fetch.args }}
  args:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  workingDir: /var/lib/pilothouse
  env:
    - name: HOME
      value: /tmp
    {{- with $fetch.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $fetch.envFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  resources:
    {{- toYaml $fetch.resources | nindent 4 }}
  securityContext:
    {{- include "pilothouse.containerSecurity" . | nindent 4 }}
  volumeMounts:
    - name: models
      mountPath: /var/lib/pilothouse/models
    - name: tmp
      mountPath: /tmp
{{- else -}}
[]
{{- end -}}
{{- end -}}
