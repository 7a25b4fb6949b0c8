{{/* Certificates: whose, for which names, in which Secret. Every component has an identity of its own. */}}

{{/* Identities as a JSON list: the components that are on, and the clients outside (helm test, operators). */}}
{{- define "pilothouse.identities" -}}
{{- append (include "pilothouse.enabled" . | fromJsonArray) "client" | toJson -}}
{{- end -}}

{{/* DNS names of an identity as a JSON list: dict root, name. */}}
{{- define "pilothouse.dnsNames" -}}
{{- $root := .root -}}
{{- $full := include "pilothouse.fullname" $root -}}
{{- $services := list .name -}}
{{- if eq .name "policy" -}}{{- $services = append $services "weights" -}}{{- end -}}
{{- $names := list -}}
{{- range $services -}}
{{- $service := printf "%s-%s" $full . -}}
{{- $host := include "pilothouse.host" (dict "root" $root "name" .) -}}
{{- $names = concat $names (list $service (trimSuffix ".svc" $host) $host (printf "%s.%s" $host $root.Values.clusterDomain)) -}}
{{- end -}}
{{- concat $names (list "localhost") $root.Values.tls.extraDnsNames | toJson -}}
{{- end -}}

{{/* Secret of a component's certificate: dict root, c (or only name). */}}
{{- define "pilothouse.tlsSecretName" -}}
{{- $own := "" -}}{{- if .c -}}{{- $own = .c.tlsSecret -}}{{- end -}}
{{- $name := default "" .name -}}{{- if .c -}}{{- $name = .c.name -}}{{- end -}}
{{- if eq .root.Values.tls.mode "existingSecret" -}}
{{- default .root.Values.tls.existingSecret $own -}}
{{- else -}}
{{- printf "%s-%s-tls" (include "pilothouse.fullname" .root) $name -}}
{{- end -}}
{{- end -}}

{{/* Labels of a Secret that cert-manager makes, and leaves behind: whose it is. dict root, name. */}}
{{- define "pilothouse.secretTemplate" -}}
secretTemplate:
  labels:
    {{- include "pilothouse.selectorLabels" . | nindent 4 }}
{{- end -}}
