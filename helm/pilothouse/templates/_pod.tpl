{{/*
One pod template for every component: dict root, c (the component), and what it has of its own:
  command, args     of the container
  env               list, before extraEnv
  mounts, volumes   lists, beside the common ones
  init              list of init containers, after the one that fetches models
  job               true in a Job, whose pods are not restarted in place
  subdomain         headless Service that gives the pods their host names
  annotations       map, of the pod
*/}}
{{- define "pilothouse.podTemplate" -}}
{{- $c := .c -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "pilothouse.selectorLabels" (dict "root" $root "name" $c.name) | nindent 4 }}
    {{- with $c.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ include "pilothouse.configDigest" . | quote }}
    {{- with .annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $c.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "pilothouse.podSettings" . | nindent 2 }}
  terminationGracePeriodSeconds: {{ int $c.graceSeconds }}
  {{- if .job }}
  restartPolicy: Never
  {{- end }}
  {{- with .subdomain }}
  subdomain: {{ . | quote }}
  {{- end }}
  {{- $init := include "pilothouse.fetchContainer" . | fromYamlArray }}
  {{- with concat $init (default list .init) }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ $c.name | quote }}
      image: {{ include "pilothouse.image" . | quote }}
      imagePullPolicy: {{ $c.image.pullPolicy | quote }}
      command:
        {{- toYaml .command | nindent 8 }}
      {{- with .args }}
      args:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      workingDir: /var/lib/pilothouse
      env:
        {{- include "pilothouse.env" . | nindent 8 }}
      {{- with $c.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        {{- range $port, $number := $c.ports }}
        - name: {{ $port | quote }}
          containerPort: {{ $number }}
          protocol: TCP
        {{- end }}
      {{- with include "pilothouse.probes" $c | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with int $c.preStopSeconds }}
      lifecycle:
        preStop:
          exec:
            command: ["sleep", {{ . | toString | quote }}]
      {{- end }}
      resources:
        {{- include "pilothouse.resources" $c | nindent 8 }}
      securityContext:
        {{- include "pilothouse.containerSecurity" . | nindent 8 }}
      volumeMounts:
        {{- include "pilothouse.mounts" . | nindent 8 }}
  volumes:
    {{- include "pilothouse.volumes" . | nindent 4 }}
{{- end -}}

{{/* Settings of a pod that do not depend on its containers: dict root, c. */}}
{{- define "pilothouse.podSettings" -}}
{{- $c := .c -}}
serviceAccountName: {{ include "pilothouse.serviceAccountName" . | quote }}
automountServiceAccountToken: {{ eq $c.name "trainer" }}
enableServiceLinks: false
# The kernel keeps SIGTERM from a first process that has not said what to do with it. A process that is still importing has not: the
# pause container is the first instead, and a pod that is told to end while it starts does so.
shareProcessNamespace: true
{{- with $c.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with $c.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $c.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with $c.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $c.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $c.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $c.topologySpread.enabled }}
topologySpreadConstraints:
  {{- range $c.topologySpread.topologyKeys }}
  - topologyKey: {{ . | quote }}
    maxSkew: {{ int $c.topologySpread.maxSkew }}
    whenUnsatisfiable: {{ $c.topologySpread.whenUnsatisfiable | quote }}
    labelSelector:
      matchLabels:
        {{- include "pilothouse.selectorLabels" (dict "root" $.root "name" $c.name) | nindent 8 }}
  {{- end }}
{{- end }}
securityContext:
  {{- include "pilothouse.podSecurity" $c.runAs | nindent 2 }}
{{- end -}}

{{/* Pod security of the level "restricted": the pod's half, from runAs. */}}
{{- define "pilothouse.podSecurity" -}}
runAsNonRoot: true
{{- if .user }}
runAsUser: {{ int .user }}
{{- end }}
{{- if .group }}
runAsGroup: {{ int .group }}
{{- end }}
{{- if .fsGroup }}
fsGroup: {{ int .fsGroup }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Pod security of the level "restricted": the half of every container. */}}
{{- define "pilothouse.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: ["ALL"]
{{- end -}}

{{/* Requests and limits, GPUs included: a component. */}}
{{- define "pilothouse.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if gt (int .gpu.count) 0 -}}
{{- range $key := list "requests" "limits" -}}
{{- $gpu := dict $.gpu.resourceName (int $.gpu.count | toString) -}}
{{- $_ := set $resources $key (merge $gpu (default dict (get $resources $key))) -}}
{{- end -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* Probes of plain HTTP: a component. */}}
{{- define "pilothouse.probes" -}}
{{- range $name, $path := dict "startup" "/readyz" "readiness" "/readyz" "liveness" "/healthz" }}
{{- $probe := index $.probes $name }}
{{- if $probe.enabled }}
{{ $name }}Probe:
  httpGet:
    path: {{ $path | quote }}
    port: http
    scheme: HTTP
  periodSeconds: {{ int $probe.periodSeconds }}
  timeoutSeconds: {{ int $probe.timeoutSeconds }}
  failureThreshold: {{ int $probe.failureThreshold }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Switches off all probes of a component, whatever the values say. */}}
{{- define "pilothouse.withoutProbes" -}}
{{- range $probe := .probes -}}{{- $_ := set $probe "enabled" false -}}{{- end -}}
{{- end -}}

{{/* Environment of the container: dict root, c, env. */}}
{{- define "pilothouse.env" -}}
- name: PILOTHOUSE_CONFIG
  value: /etc/pilothouse/pilothouse.toml
- name: HOME
  value: /tmp
{{- with .env }}
{{ toYaml . }}
{{- end }}
{{- with .c.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
