{{- define "hookbridge.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* The labels that never change: selectors use them. (dict "root" $ "component" "bridge") */ -}}
{{- define "hookbridge.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "hookbridge.labels" -}}
{{ include "hookbridge.selector" . }}
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Those of pods. Without the chart's version, so that a chart that changes nothing else restarts nothing. */ -}}
{{- define "hookbridge.podLabels" -}}
{{ include "hookbridge.selector" . }}
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | trunc 63 | quote }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- with .root.Values.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "hookbridge.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- with .Values.image.digest -}}
{{ $.Values.image.repository }}@{{ . }}
{{- else -}}
{{ .Values.image.repository }}:{{ $tag }}
{{- end -}}
{{- end -}}

{{- define "hookbridge.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "hookbridge.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- /* The kind of store: embedded, memory or shared. */ -}}
{{- define "hookbridge.store" -}}
{{- $store := .Values.config.store | default "embedded" | toString -}}
{{- if has $store (list "embedded" "memory") -}}
{{ $store }}
{{- else if regexMatch "^(rediss?|nats|tls)://" $store -}}
shared
{{- else -}}
{{ fail (printf "config.store: %q: write `embedded`, `memory` or the URL of a shared store: the kind of workload depends on it" $store) }}
{{- end -}}
{{- end -}}

{{- /* The sources by name; without `sources`, there is `videogen`. As JSON. */ -}}
{{- define "hookbridge.sources" -}}
{{- $sources := dict -}}
{{- range $name, $source := .Values.config.sources -}}
{{- if not (hasPrefix "x-" $name) -}}{{- $_ := set $sources $name ($source | default dict) -}}{{- end -}}
{{- end -}}
{{- if not $sources -}}{{- $_ := set $sources "videogen" dict -}}{{- end -}}
{{- $sources | toJson -}}
{{- end -}}

{{- /* The paths of the sources, as a JSON list. */ -}}
{{- define "hookbridge.paths" -}}
{{- $paths := list -}}
{{- range $name, $source := include "hookbridge.sources" . | fromJson -}}
{{- $paths = append $paths ($source.path | default (printf "/webhooks/%s" $name)) -}}
{{- end -}}
{{- $paths | uniq | sortAlpha | toJson -}}
{{- end -}}
