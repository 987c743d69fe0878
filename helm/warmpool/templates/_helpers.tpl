{{- define "warmpool.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "warmpool.sandboxNamespace" -}}
{{- $name := default (printf "%s-sandboxes" .Release.Namespace) .Values.sandbox.namespace -}}
{{- if eq $name .Release.Namespace -}}
{{- fail "sandbox.namespace: sandbox pods need a namespace of their own, other than the release's" -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* Of a component's pods. Takes a dict of root and component. */}}
{{- define "warmpool.selector" -}}
app.kubernetes.io/name: {{ default "warmpool" .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Of every object. Takes a dict of root and component. */}}
{{- define "warmpool.labels" -}}
{{ include "warmpool.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: warmpool
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Takes a dict of root and name. */}}
{{- define "warmpool.image" -}}
{{- with index .root.Values.images .name -}}
{{- . -}}
{{- else -}}
{{- printf "%s/%s:%s" .root.Values.images.registry .name (default .root.Chart.AppVersion .root.Values.images.tag) -}}
{{- end -}}
{{- end -}}

{{- define "warmpool.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "warmpool.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "warmpool.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Where a component's pods run. Takes a dict of root, component and values. */}}
{{- define "warmpool.placement" -}}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
topologySpreadConstraints:
  {{- if .values.topologySpreadConstraints }}
  {{- toYaml .values.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "warmpool.selector" . | nindent 8 }}
  {{- end }}
{{- end -}}

{{- define "warmpool.keysSecret" -}}
{{- default (printf "%s-keys" (include "warmpool.fullname" .)) .Values.keys.existingSecret -}}
{{- end -}}

{{- define "warmpool.poolKeySecret" -}}
{{- default (printf "%s-pool-key" (include "warmpool.fullname" .)) .Values.keys.existingPoolSecret -}}
{{- end -}}

{{- define "warmpool.redisSecret" -}}
{{- if .Values.redis.embedded.enabled -}}
{{- printf "%s-redis" (include "warmpool.fullname" .) -}}
{{- else -}}
{{- required "redis.existingSecret: name the Secret with redis.url, or set redis.embedded.enabled" .Values.redis.existingSecret -}}
{{- end -}}
{{- end -}}

{{- define "warmpool.postgresSecret" -}}
{{- if .Values.postgres.embedded.enabled -}}
{{- printf "%s-postgres" (include "warmpool.fullname" .) -}}
{{- else -}}
{{- required "postgres.existingSecret: name the Secret with postgres.dsn, or set postgres.embedded.enabled" .Values.postgres.existingSecret -}}
{{- end -}}
{{- end -}}

{{/* One source of the projected volume. Takes a dict of secret and keys. */}}
{{- define "warmpool.secretSource" -}}
- secret:
    name: {{ .secret }}
    items:
      {{- range .keys }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end -}}

{{/* The settings that gateways share with the SandboxPool, from one definition. */}}
{{- define "warmpool.poolEnvironment" -}}
- {name: WARMPOOL_POOL__NAME, value: {{ .Values.pool.name | quote }}}
- {name: WARMPOOL_POOL__HEARTBEAT_SECONDS, value: {{ include "warmpool.heartbeatSeconds" . | quote }}}
- {name: WARMPOOL_POOL__MAX_EXECUTIONS, value: {{ .Values.pool.recycle.maxExecutions | toJson | quote }}}
- {name: WARMPOOL_POOL__MAX_AGE_SECONDS, value: {{ .Values.pool.recycle.maxAgeSeconds | toJson | quote }}}
{{- with .Values.pool.network.tcpPorts }}
- {name: WARMPOOL_POOL__TCP_PORTS, value: {{ toJson . | quote }}}
{{- end }}
{{- range $name, $value := .Values.pool.limits }}
- {name: WARMPOOL_POOL__LIMITS__{{ $name | snakecase | upper }}, value: {{ $value | toJson | quote }}}
{{- end }}
{{- end -}}

{{/* Long enough for an operator's failover, some 20 s, not to make idle pods look dead. */}}
{{- define "warmpool.heartbeatSeconds" -}}60{{- end -}}

{{/* Of the tool server and of what imports for it: both must agree. */}}
{{- define "warmpool.embeddingEnvironment" -}}
- {name: WARMPOOL_EMBEDDING__MODEL, value: {{ .Values.embedding.model | quote }}}
- {name: WARMPOOL_EMBEDDING__DIMENSIONS, value: {{ .Values.embedding.dimensions | toJson | quote }}}
{{- with .Values.embedding.baseUrl }}
- {name: WARMPOOL_EMBEDDING__BASE_URL, value: {{ . | quote }}}
{{- end }}
{{- with .Values.embedding.existingSecret }}
- name: OPENAI_API_KEY
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: openai.key}
{{- end }}
{{- end -}}

{{- define "warmpool.operatorEnvironment" -}}
- name: WARMPOOL_OPERATOR__IDENTITY
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
- {name: WARMPOOL_OPERATOR__NAMESPACE, value: {{ include "warmpool.sandboxNamespace" . }}}
- {name: WARMPOOL_OPERATOR__LEASE_NAMESPACE, value: {{ .Release.Namespace }}}
- {name: WARMPOOL_OPERATOR__LEASE_NAME, value: {{ include "warmpool.fullname" . }}-operator}
- {name: WARMPOOL_POOL__HEARTBEAT_SECONDS, value: {{ include "warmpool.heartbeatSeconds" . | quote }}}
{{- end -}}

{{/* Of a trial store's volume. Takes its values. */}}
{{- define "warmpool.claim" -}}
volumeClaimTemplates:
  - apiVersion: v1
    kind: PersistentVolumeClaim
    metadata:
      name: data
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .storageClassName }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests:
          storage: {{ .size }}
{{- end -}}

{{- define "warmpool.toolsName" -}}
{{- /* Not AsConfig, which knows files by their last name alone: here all are __init__.py. */ -}}
{{- $text := "" -}}
{{- range $path, $bytes := .Files.Glob "files/tools/**.py" }}{{ $text = print $text $path (toString $bytes) }}{{ end -}}
{{ include "warmpool.fullname" . }}-tools-{{ $text | sha256sum | trunc 10 }}
{{- end -}}

{{/* `files/tools/servers/search/__init__.py` is `servers.search.py`: a ConfigMap's key has no slash. */}}
{{- define "warmpool.toolKey" -}}
{{ . | trimPrefix "files/tools/" | trimSuffix ".py" | trimSuffix "/__init__" | replace "/" "." }}.py
{{- end -}}

{{/* The SandboxPool, as JSON: YAML would write its byte counts as floating-point numbers. */}}
{{- define "warmpool.pool" -}}
{{- $items := list -}}
{{- range $path, $_ := .Files.Glob "files/tools/**.py" -}}
{{- $items = append $items (dict "key" (include "warmpool.toolKey" $path) "path" (trimPrefix "files/tools/" $path)) -}}
{{- end -}}
{{- $pool := .Values.pool -}}
{{- $spec := dict
  "replicas" $pool.replicas
  "image" (include "warmpool.image" (dict "root" . "name" "sandbox"))
  "imagePullPolicy" .Values.images.pullPolicy
  "recycle" (pick $pool.recycle "mode" "maxExecutions" "maxAgeSeconds")
  "strategy" (pick $pool.strategy "maxUnavailable" "maxSurge")
  "paused" $pool.paused
  "tools" (dict "configMap" (include "warmpool.toolsName" .) "items" $items)
  "keySecret" (dict "name" (include "warmpool.poolKeySecret" .))
-}}
{{- range $field := list "autoscale" "resources" "limits" "minLandlockABI" "runtimeClassName" -}}
{{- with get $pool $field -}}
{{- $_ := set $spec $field . -}}
{{- end -}}
{{- end -}}
{{- with $pool.network.tcpPorts -}}
{{- if semverCompare "<1.32-0" $.Capabilities.KubeVersion.Version -}}
{{- fail "pool.network.tcpPorts: needs Kubernetes 1.32, which lets a pod bound its connections" -}}
{{- end -}}
{{- $_ := set $spec "network" (dict "tcpPorts" .) -}}
{{- else -}}
{{- if $pool.network.egress -}}
{{- fail "pool.network.egress: say in pool.network.tcpPorts to which ports, or leave it out" -}}
{{- end -}}
{{- end -}}
{{- if not (kindIs "invalid" $pool.hostUsers) -}}
{{- $_ := set $spec "hostUsers" $pool.hostUsers -}}
{{- end -}}
{{- with .Values.images.pullSecrets -}}
{{- $_ := set $spec "imagePullSecrets" . -}}
{{- end -}}
{{- $template := dict -}}
{{- range $part, $value := pick $pool.template "metadata" "spec" -}}
{{- if $value -}}
{{- $_ := set $template $part $value -}}
{{- end -}}
{{- end -}}
{{- with $template -}}
{{- $_ := set $spec "template" . -}}
{{- end -}}
{{- dict
  "apiVersion" "warmpool.dev/v1alpha1"
  "kind" "SandboxPool"
  "metadata" (dict
    "name" $pool.name
    "namespace" (include "warmpool.sandboxNamespace" .)
    "labels" (include "warmpool.labels" (dict "root" . "component" "pool") | fromYaml))
  "spec" $spec
| toPrettyJson -}}
{{- end -}}

{{/* Of a Job's pod: what all of them have. Takes a dict of root and component. */}}
{{- define "warmpool.jobPod" -}}
restartPolicy: Never
enableServiceLinks: false
terminationGracePeriodSeconds: 5
{{- include "warmpool.pullSecrets" .root }}
securityContext:
  {{- include "warmpool.podSecurity" .root | nindent 2 }}
{{- end -}}

{{- define "warmpool.jobResources" -}}
requests: {cpu: 50m, memory: 96Mi}
limits: {memory: 512Mi}
{{- end -}}
