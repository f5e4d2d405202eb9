{{- /* What the bridge, the preflight check and the test have in common. */ -}}

{{- define "hookbridge.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- end -}}

{{- define "hookbridge.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{- define "hookbridge.env" -}}
- {name: HOOKBRIDGE_CONFIG, value: /etc/hookbridge/hookbridge.yaml}
- {name: HOOKBRIDGE_LISTEN, value: {{ printf "%s:8080" .Values.bindAddress | quote }}}
- {name: HOOKBRIDGE_ADMIN, value: {{ printf "%s:9464" .Values.bindAddress | quote }}}
# Below the volume, whose root is open to fsGroup: the program makes its own directory, for itself alone.
- {name: HOOKBRIDGE_DATA, value: /data/hookbridge}
{{- with .Values.logLevel }}
- {name: HOOKBRIDGE_LOG, value: {{ . | quote }}}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "hookbridge.mounts" -}}
- {name: config, mountPath: /etc/hookbridge, readOnly: true}
{{- if or .Values.secrets.existing .Values.secrets.values }}
- {name: secrets, mountPath: /run/secrets/hookbridge, readOnly: true}
{{- end }}
- {name: data, mountPath: /data}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* (dict "root" $ "name" NAME), where NAME is that of the ConfigMap, and NAME-secrets that of the Secret with secrets.values */ -}}
{{- define "hookbridge.volumes" -}}
{{- $values := .root.Values -}}
- name: config
  configMap: {name: {{ .name }}}
{{- if or $values.secrets.existing $values.secrets.values }}
- name: secrets
  # The whole folder, so that a changed Secret appears without a restart. Readable for the group of fsGroup only.
  projected:
    defaultMode: 0440
    sources:
      {{- range (kindIs "slice" $values.secrets.existing | ternary $values.secrets.existing (list $values.secrets.existing)) }}
      {{- if . }}
      - secret: {name: {{ . }}}
      {{- end }}
      {{- end }}
      {{- if $values.secrets.values }}
      - secret: {name: {{ .name }}-secrets}
      {{- end }}
{{- end }}
{{- with $values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "hookbridge.placement" -}}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{ toJson . }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- /* The configuration file; rendered once, so that its checksum is that of what is mounted. */ -}}
{{- define "hookbridge.config" -}}
{{ toYaml .Values.config }}
{{- end -}}

{{- /* The template of the bridge's pod. (dict "root" $ "store" STORE) */ -}}
{{- define "hookbridge.pod" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $bridge := dict "root" $root "component" "bridge" -}}
metadata:
  labels:
    {{- include "hookbridge.podLabels" $bridge | nindent 4 }}
  annotations:
    # Settings need a restart. Secrets do not: the program takes up changed files, so they have no checksum here.
    checksum/config: {{ include "hookbridge.config" $root | sha256sum }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "hookbridge.serviceAccount" $root }}
  {{- include "hookbridge.podSecurity" $root | nindent 2 }}
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds | default (add (include "hookbridge.drainSeconds" $root | int) 10) }}
  {{- with include "hookbridge.placement" $root | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- if eq .store "shared" }}
  topologySpreadConstraints:
    {{- range $values.topologySpreadConstraints }}
    - {{ merge (deepCopy .) (dict "labelSelector" (dict "matchLabels" (include "hookbridge.selector" $bridge | fromYaml)) "matchLabelKeys" (list "pod-template-hash")) | toJson }}
    {{- end }}
  {{- end }}
  containers:
    - name: hookbridge
      image: {{ include "hookbridge.image" $root | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args: [serve]
      env:
        {{- include "hookbridge.env" $root | nindent 8 }}
      ports:
        - {name: webhooks, containerPort: 8080}
        - {name: admin, containerPort: 9464}
      # The admin port answers from the start. A big ledger may take a while to open, which only readiness waits for.
      startupProbe: {{ merge (deepCopy $values.probes.startup) (dict "httpGet" (dict "path" "/livez" "port" "admin")) | toJson }}
      livenessProbe: {{ merge (deepCopy $values.probes.liveness) (dict "httpGet" (dict "path" "/livez" "port" "admin")) | toJson }}
      readinessProbe: {{ merge (deepCopy $values.probes.readiness) (dict "httpGet" (dict "path" "/readyz" "port" "admin")) | toJson }}
      {{- if $values.preStopSleepSeconds }}
      # Until every proxy has heard that the pod ends, it goes on to answer.
      lifecycle: {preStop: {sleep: {seconds: {{ $values.preStopSleepSeconds }}}}}
      {{- end }}
      terminationMessagePolicy: FallbackToLogsOnError
      {{- include "hookbridge.containerSecurity" $root | nindent 6 }}
      resources: {{ toJson $values.resources }}
      volumeMounts:
        {{- include "hookbridge.mounts" $root | nindent 8 }}
  volumes:
    {{- include "hookbridge.volumes" (dict "root" $root "name" (include "hookbridge.fullname" $root)) | nindent 4 }}
    {{- if not (and (eq .store "embedded") $values.persistence.enabled (not $values.persistence.existingClaim)) }}
    - name: data
      {{- if and (eq .store "embedded") $values.persistence.enabled }}
      persistentVolumeClaim: {claimName: {{ $values.persistence.existingClaim }}}
      {{- else }}
      emptyDir: {}
      {{- end }}
    {{- end }}
{{- end -}}
