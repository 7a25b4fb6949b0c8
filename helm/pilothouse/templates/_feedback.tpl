{{/* The database's URL, password and all, from its Secret. */}}
{{- define "pilothouse.databaseEnv" -}}
- name: PILOTHOUSE_FEEDBACK__DATABASE
  valueFrom:
    secretKeyRef:
      name: {{ .Values.feedback.postgresql.existingSecret | quote }}
      key: {{ .Values.feedback.postgresql.key | quote }}
{{- end -}}

{{/* Brings the tables up to date and ends, with what is added to the service, a database's CA for example: dict root, c. */}}
{{- define "pilothouse.migrateContainer" -}}
{{- $sqlite := include "pilothouse.hasSqlite" .root -}}
name: migrate
image: {{ include "pilothouse.image" . | quote }}
imagePullPolicy: {{ .c.image.pullPolicy | quote }}
command: [python, "-m", pilothouse.feedback.migrate]
{{- if $sqlite }}
args: ["--config", /etc/pilothouse/pilothouse.toml]
{{- end }}
env:
  - name: HOME
    value: /tmp
  {{- if not $sqlite }}
  {{- include "pilothouse.databaseEnv" .root | nindent 2 }}
  {{- end }}
  {{- with .c.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .c.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
resources:
  {{- toYaml .c.resources | nindent 2 }}
securityContext:
  {{- include "pilothouse.containerSecurity" . | nindent 2 }}
volumeMounts:
  - name: tmp
    mountPath: /tmp
  {{- if $sqlite }}
  - name: config
    mountPath: /etc/pilothouse
    readOnly: true
  - name: feedback
    mountPath: /var/lib/pilothouse/feedback
  {{- end }}
  {{- with .c.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
