{{/*
Who may talk to whom: the one table from which every NetworkPolicy is computed.

Roles of the release are its components, triton, migration and test. The others stand outside: generate-client, score-client and operator
are pods with the label pilothouse.io/<role>: "true"; metrics is Prometheus; ingress is whatever brings people and calls in from
outside; kubernetes is the API server, postgresql the database, model-store where models are fetched from. Every role may ask DNS.
The kubelet's probes and port-forwards come from the node, which no NetworkPolicy keeps out.
*/}}
{{- define "pilothouse.edges" -}}
{{- $loop := eq .Values.trainer.kind "loop" -}}
- { from: trainer, to: policy, ports: [grpc, weights] }
- { from: trainer, to: reward, ports: [grpc{{ if $loop }}, models{{ end }}] }
- { from: trainer, to: reference, ports: [grpc] }
- { from: trainer, to: kubernetes, ports: [kubernetes] }
{{- if $loop }}
- { from: trainer, to: feedback, ports: [grpc] }
{{- end }}
{{- if gt (int .Values.trainer.ranks) 1 }}
# torch.distributed chooses its ports itself.
- { from: trainer, to: trainer, ports: [any] }
{{- end }}
# A policy pod that lacks weights gets them from its peers.
- { from: policy, to: policy, ports: [weights] }
- { from: generate-client, to: policy, ports: [grpc] }
- { from: score-client, to: reward, ports: [grpc] }
- { from: operator, to: policy, ports: [grpc, weights] }
- { from: operator, to: reward, ports: [grpc, models] }
- { from: operator, to: reference, ports: [grpc] }
- { from: operator, to: feedback, ports: [grpc] }
- { from: operator, to: trainer, ports: [grpc] }
{{- range $role := list "policy" "reward" "reference" "feedback" "trainer" }}
- { from: metrics, to: {{ $role }}, ports: [http] }
{{- end }}
{{- range $role := list "policy" "reward" "reference" "feedback" }}
- { from: test, to: {{ $role }}, ports: [grpc, http] }
{{- end }}
{{- if or .Values.ingress.enabled (and .Values.gateway.enabled .Values.gateway.page.enabled) }}
- { from: ingress, to: feedback, ports: [page] }
{{- end }}
{{- range $role := list "policy" "reward" "feedback" }}
{{- if and $.Values.gateway.enabled (index $.Values.gateway $role).enabled }}
- { from: ingress, to: {{ $role }}, ports: [grpc] }
{{- end }}
{{- end }}
{{- if .Values.feedback.postgresql.enabled }}
- { from: feedback, to: postgresql, ports: [postgresql] }
- { from: migration, to: postgresql, ports: [postgresql] }
{{- end }}
{{- if .Values.triton.enabled }}
- { from: reward, to: triton, ports: [grpc] }
- { from: metrics, to: triton, ports: [metrics] }
{{- end }}
{{- end -}}

{{/* Roles that have pods here, as a JSON list; without those of hooks, unless `hooks` is set: dict root, hooks. */}}
{{- define "pilothouse.roles" -}}
{{- $roles := include "pilothouse.enabled" .root | fromJsonArray -}}
{{- if .root.Values.triton.enabled -}}{{- $roles = append $roles "triton" -}}{{- end -}}
{{- $roles = append $roles "test" -}}
{{- if and .hooks .root.Values.feedback.enabled .root.Values.feedback.postgresql.enabled -}}{{- $roles = append $roles "migration" -}}{{- end -}}
{{- toJson $roles -}}
{{- end -}}

{{/* Numbers of the ports that a role serves, by name, as JSON: dict root, role. */}}
{{- define "pilothouse.rolePorts" -}}
{{- $values := .root.Values -}}
{{- if eq .role "triton" -}}
{{- dict "grpc" (list 8001) "metrics" (list 8002) | toJson -}}
{{- else if eq .role "kubernetes" -}}
{{- dict "kubernetes" $values.networkPolicy.apiServer.ports | toJson -}}
{{- else if eq .role "postgresql" -}}
{{- dict "postgresql" (list $values.feedback.postgresql.port) | toJson -}}
{{- else -}}
{{- $ports := dict -}}
{{- range $name, $number := (include "pilothouse.component" (dict "root" .root "name" .role) | fromJson).ports -}}
{{- $_ := set $ports $name (list $number) -}}
{{- end -}}
{{- toJson $ports -}}
{{- end -}}
{{- end -}}

{{/* The peers that a role is, as a YAML list; an empty one is anybody: dict root, role. */}}
{{- define "pilothouse.rolePeers" -}}
{{- $policy := .root.Values.networkPolicy -}}
{{- if has .role (include "pilothouse.roles" (dict "root" .root "hooks" true) | fromJsonArray) -}}
- podSelector:
    matchLabels:
      {{- include "pilothouse.selectorLabels" (dict "root" .root "name" .role) | nindent 6 }}
{{- else if has .role (list "generate-client" "score-client" "operator") -}}
- podSelector: &pods
    matchLabels:
      {{ printf "pilothouse.io/%s" .role }}: "true"
{{- with $policy.clientNamespaceSelector }}
- podSelector: *pods
  namespaceSelector:
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- else if eq .role "metrics" -}}
- namespaceSelector:
    {{- toYaml $policy.metricsNamespaceSelector | nindent 4 }}
{{- else if eq .role "ingress" -}}
- namespaceSelector:
    {{- toYaml $policy.ingressNamespaceSelector | nindent 4 }}
{{- else if eq .role "kubernetes" -}}
{{- range $policy.apiServer.cidrs }}
- ipBlock:
    cidr: {{ . | quote }}
{{- else -}}
[]
{{- end }}
{{- else if eq .role "postgresql" -}}
{{- toYaml .root.Values.feedback.postgresql.to -}}
{{- end -}}
{{- end -}}

{{/* Rules of one direction, as a YAML list: dict root, role, way ("ingress" or "egress"). */}}
{{- define "pilothouse.rules" -}}
{{- $root := .root -}}
{{- $here := ternary "to" "from" (eq .way "ingress") -}}
{{- $there := ternary "from" "to" (eq .way "ingress") -}}
{{- $present := concat (include "pilothouse.roles" (dict "root" $root "hooks" true) | fromJsonArray) (list "generate-client" "score-client" "operator" "metrics" "ingress" "kubernetes" "postgresql") -}}
{{- $rules := list -}}
{{- range $edge := include "pilothouse.edges" $root | fromYamlArray -}}
{{- if and (eq (get $edge $here) $.role) (has (get $edge $there) $present) -}}
{{- $rule := dict -}}
{{- with include "pilothouse.rolePeers" (dict "root" $root "role" (get $edge $there)) | fromYamlArray -}}
{{- $_ := set $rule $there . -}}
{{- end -}}
{{- $served := include "pilothouse.rolePorts" (dict "root" $root "role" $edge.to) | fromJson -}}
{{- $ports := list -}}
{{- range $edge.ports -}}
{{- range default list (get $served .) -}}
{{- $ports = append $ports (dict "protocol" "TCP" "port" (int .)) -}}
{{- end -}}
{{- end -}}
{{- if $ports -}}{{- $_ := set $rule "ports" $ports -}}{{- end -}}
{{- if or $ports (has "any" $edge.ports) -}}{{- $rules = append $rules $rule -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $rules -}}
{{- end -}}

{{/* The spec of a role's NetworkPolicy: dict root, role. */}}
{{- define "pilothouse.networkPolicySpec" -}}
{{- $values := .root.Values -}}
{{- $ingress := include "pilothouse.rules" (dict "root" .root "role" .role "way" "ingress") | fromYamlArray -}}
{{- $egress := include "pilothouse.rules" (dict "root" .root "role" .role "way" "egress") | fromYamlArray -}}
{{- $dns := dict "ports" (list (dict "protocol" "UDP" "port" 53) (dict "protocol" "TCP" "port" 53)) -}}
{{- with $values.networkPolicy.dns.to -}}{{- $_ := set $dns "to" . -}}{{- end -}}
{{- $egress = append $egress $dns -}}
{{- if has .role (include "pilothouse.enabled" .root | fromJsonArray) -}}
{{- $c := include "pilothouse.component" (dict "root" .root "name" .role) | fromJson -}}
{{- if and $values.models.fetch.enabled $c.mountModels -}}{{- $egress = concat $egress $values.models.fetch.egress -}}{{- end -}}
{{- $ingress = concat $ingress $c.networkPolicy.extraIngress -}}
{{- $egress = concat $egress $c.networkPolicy.extraEgress -}}
{{- end -}}
podSelector:
  matchLabels:
    {{- include "pilothouse.selectorLabels" (dict "root" .root "name" .role) | nindent 4 }}
policyTypes: [Ingress, Egress]
ingress:
  {{- toYaml $ingress | nindent 2 }}
egress:
  {{- toYaml $egress | nindent 2 }}
{{- end -}}
