{{- /* What values.schema.json cannot express. Every message says what to change. */ -}}
{{- define "hookbridge.validate" -}}
{{- $store := include "hookbridge.store" . -}}
{{- if not .Values.config.destinations -}}
{{- fail "config.destinations: none: name at least one broker, as in values-minimal.yaml" -}}
{{- end -}}
{{- if hasKey .Values.config "listen" -}}
{{- fail "config.listen: the chart sets it: remove it (service.port is the port of the Service)" -}}
{{- end -}}
{{- if hasKey (.Values.config.admin | default dict) "listen" -}}
{{- fail "config.admin.listen: the chart sets it to port 9464: remove it" -}}
{{- end -}}
{{- if hasKey .Values.config "data" -}}
{{- fail "config.data: the chart sets it to a directory of the volume: remove it (persistence.size is its size)" -}}
{{- end -}}
{{- if ne $store "shared" -}}
{{- $why := ternary "its ledger belongs to one process and one disk" "it keeps ids in the process" (eq $store "embedded") -}}
{{- if gt (int .Values.replicaCount) 1 -}}
{{- fail (printf "replicaCount: %d: the store `%s` allows exactly one replica: %s, so a second one would publish the same deliveries again" (int .Values.replicaCount) $store $why) -}}
{{- end -}}
{{- if .Values.autoscaling.enabled -}}
{{- fail (printf "autoscaling.enabled: the store `%s` allows exactly one replica: %s" $store $why) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $store "embedded") .Values.strategy -}}
{{- fail (printf "strategy: %s: the store `embedded` has a StatefulSet, which always stops the old pod before it starts the new one, since two processes must not share a ledger: remove `strategy`" (.Values.strategy.type | default "RollingUpdate")) -}}
{{- end -}}
{{- if eq (.Values.config.ack | default "published" | toString) "stored" -}}
{{- if ne $store "embedded" -}}
{{- fail "config.ack: `stored` needs a store on disk: remove config.store, or write `embedded`" -}}
{{- end -}}
{{- if not .Values.persistence.enabled -}}
{{- fail "persistence.enabled: false: with `ack: stored`, events that were answered 200 wait on the volume: without one they are lost with the pod" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.podDisruptionBudget.enabled (not (kindIs "invalid" .Values.podDisruptionBudget.minAvailable)) (not (kindIs "invalid" .Values.podDisruptionBudget.maxUnavailable)) -}}
{{- fail "podDisruptionBudget: set minAvailable or maxUnavailable, not both" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.hosts: none: name the host that VideoGen posts to" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs: none: name the Gateway" -}}
{{- end -}}
{{- $drain := include "hookbridge.drainSeconds" . | int -}}
{{- with .Values.terminationGracePeriodSeconds -}}
{{- if lt (int .) (add $drain 1 | int) -}}
{{- fail (printf "terminationGracePeriodSeconds: %d: the pod needs more than %d s: preStopSleepSeconds and the shutdown of up to config.shutdown.timeout" (int .) $drain) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Seconds from the deletion of the pod until the program has ended: the preStop sleep and `shutdown.timeout`, rounded up. */ -}}
{{- define "hookbridge.drainSeconds" -}}
{{- $text := (.Values.config.shutdown | default dict).timeout | default "25s" | toString | nospace -}}
{{- if not (regexMatch "^[0-9]+(ms|s|m|h)$" $text) -}}
{{- fail (printf "config.shutdown.timeout: %q: write a number and a unit, such as 25s: the pod's grace period depends on it" $text) -}}
{{- end -}}
{{- $number := regexFind "^[0-9]+" $text | int -}}
{{- $unit := regexFind "[a-z]+$" $text -}}
{{- $seconds := get (dict "ms" (add (div $number 1000) 1) "s" $number "m" (mul $number 60) "h" (mul $number 3600)) $unit -}}
{{- add $seconds (int .Values.preStopSleepSeconds) -}}
{{- end -}}
