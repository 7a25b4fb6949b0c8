{{/*
What is known of the components, and a component's own settings.

A component's settings are `defaults` with what the component says itself merged over them; so all of them have the
same keys, and templates need not know which component they write.
*/}}

{{/* The table: section of the configuration, servers (name of port: [section, server, key]), queue, readers of what. */}}
{{- define "pilothouse.table" -}}
policy:
  module: pilothouse.policy
  section: policy
  ports: { grpc: [policy, server, port], weights: [policy, weights_server, port], http: [policy, server, http_port] }
  sections: [policy, tls]
  queue: pilothouse_policy_waiting
reward:
  module: pilothouse.reward
  section: reward
  ports: { grpc: [reward, server, port], models: [reward, models_server, port], http: [reward, server, http_port] }
  sections: [reward, tls]
  queue: pilothouse_reward_waiting_rows
reference:
  module: pilothouse.reference
  section: reference
  ports: { grpc: [reference, server, port], http: [reference, server, http_port] }
  sections: [reference, tls]
  queue: pilothouse_reference_waiting
feedback:
  module: pilothouse.feedback
  section: feedback
  ports: { grpc: [feedback, server, port], page: [feedback, page, port], http: [feedback, server, http_port] }
  sections: [feedback, tls]
  queue: pilothouse_grpc_server_calls_waiting
trainer:
  module: ""
  section: ppo
  ports: { grpc: [ppo, server, port], http: [ppo, server, http_port] }
  sections: [] # by its command, see "pilothouse.trainerSections"
  queue: ""
{{- end -}}

{{/*
Settings of a component as JSON: dict root, name. Adds what the table knows, its ports and its seconds to end in. Computed once for
each file that asks.
*/}}
{{- define "pilothouse.component" -}}
{{- $key := printf "componentOnce %s" .name -}}
{{- if not (hasKey .root $key) -}}{{- $_ := set .root $key (include "pilothouse.component.computed" .) -}}{{- end -}}
{{- get .root $key -}}
{{- end -}}

{{- define "pilothouse.component.computed" -}}
{{- $root := .root -}}
{{- $name := .name -}}
{{- $own := index $root.Values $name -}}
{{- $c := mergeOverwrite (deepCopy $root.Values.defaults) $own (get (include "pilothouse.table" $root | fromYaml) $name) -}}
{{- $config := include "pilothouse.config" $root | fromJson -}}
{{- $ports := dict -}}
{{- range $port, $path := $c.ports -}}
{{- $_ := set $ports $port (get (get (get $config (index $path 0)) (index $path 1)) (index $path 2) | int) -}}
{{- end -}}
{{- if and (eq $name "reward") (not (include "pilothouse.hasRewardModels" $root)) -}}
{{- $_ := unset $ports "models" -}}
{{- end -}}
{{- $_ := set $c "ports" $ports -}}
{{- $_ := set $c "name" $name -}}
{{- if eq $name "trainer" -}}
{{- $_ := set $c "sections" (include "pilothouse.trainerSections" $c | fromYamlArray) -}}
{{- end -}}
{{- if eq $name "policy" -}}{{- /* It loads its model, and then may wait for weights that are on their way. */ -}}
{{- $startup := $c.probes.startup -}}
{{- $waiting := divf (dig "policy" "catch_up" "wait_seconds" 300 (default dict $root.Values.config)) $startup.periodSeconds | ceil | int -}}
{{- $_ := set $startup "failureThreshold" (add (int $startup.failureThreshold) $waiting) -}}
{{- end -}}
{{- $_ := set $c "server" (get (get $config $c.section) "server") -}}
{{- $_ := set $c "graceSeconds" (include "pilothouse.graceSeconds" $c | int) -}}
{{- toJson $c -}}
{{- end -}}

{{/* Seconds from a pod's first notice to its end: waiting for callers to know, then draining, then a reserve. */}}
{{- define "pilothouse.graceSeconds" -}}
{{- if gt (int .terminationGracePeriodSeconds) 0 -}}
{{- int .terminationGracePeriodSeconds -}}
{{- else -}}
{{- add (int .preStopSeconds) (ceil .server.drain_seconds | int) 15 -}}
{{- end -}}
{{- end -}}

{{/* Components that are switched on, as a JSON list of names. */}}
{{- define "pilothouse.enabled" -}}
{{- $names := list -}}
{{- range $name := list "policy" "reward" "reference" "feedback" "trainer" -}}
{{- if (index $.Values $name).enabled -}}{{- $names = append $names $name -}}{{- end -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}

{{/* Image of a component: dict root, c. */}}
{{- define "pilothouse.image" -}}
{{- $image := .c.image -}}
{{- $repository := $image.repository -}}
{{- if $image.registry -}}{{- $repository = printf "%s/%s" (trimSuffix "/" $image.registry) $repository -}}{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else -}}
{{- $built := printf "%s%s" .root.Chart.AppVersion (ternary "-gpu" "" (gt (int .c.gpu.count) 0)) -}}
{{- printf "%s:%s" $repository (default $built $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Name of a component's service account: dict root, c. */}}
{{- define "pilothouse.serviceAccountName" -}}
{{- if .c.serviceAccount.create -}}
{{- default (printf "%s-%s" (include "pilothouse.fullname" .root) .c.name) .c.serviceAccount.name -}}
{{- else -}}
{{- default "default" .c.serviceAccount.name -}}
{{- end -}}
{{- end -}}
